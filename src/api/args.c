/*
 * args.c
 *		Read the arguments of the SQL functions in this folder.
 */
#include "api/api.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

/* Argument n, a text, as a string; NULL if it is null. */
const char *
args_text(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/*
 * A name of the caller, for transition.worker: application_name, or the session's role if that
 * is empty.
 */
const char *
args_caller(void)
{
	return application_name && application_name[0] ? application_name : GetUserNameFromId(GetSessionUserId(), false);
}
