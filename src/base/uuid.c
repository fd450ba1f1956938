/*
 * uuid.c
 *		Event ids as text.
 */
#include "base/base.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* A uuid as text, palloc'd. */
char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}
