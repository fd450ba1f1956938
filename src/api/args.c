/*
 * args.c
 *		What the SQL functions of this folder read from their call.
 */
#include "api/api.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

/* A text argument, or NULL. */
const char *
args_text(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* Who is calling, for transition.worker: the application's name, else the role. */
const char *
args_caller(void)
{
	return application_name && application_name[0] ? application_name : GetUserNameFromId(GetSessionUserId(), false);
}
