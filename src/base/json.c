/*
 * json.c
 *		Make and read jsonb, one flat object at a time.
 */
#include "base/base.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

static void
put_key(JsonObject *object, const char *key)
{
	JsonbValue v = {.type = jbvString};

	v.val.string.val = unconstify(char *, key);
	v.val.string.len = strlen(key);
	pushJsonbValue_compat(&object->state, WJB_KEY, &v);
	object->members++;
}

/* Start an object; json_put_...() add members, json_end() finishes it. */
void
json_begin(JsonObject *object)
{
	*object = (JsonObject){.members = 0};
	pushJsonbValue_compat(&object->state, WJB_BEGIN_OBJECT, NULL);
}

/* Add a string member; none if the value is NULL. */
void
json_put_text(JsonObject *object, const char *key, const char *value)
{
	JsonbValue v = {.type = jbvString};

	if (value == NULL)
		return;
	put_key(object, key);
	v.val.string.val = unconstify(char *, value);
	v.val.string.len = strlen(value);
	pushJsonbValue_compat(&object->state, WJB_VALUE, &v);
}

/* Add a member that is a whole number. */
void
json_put_int(JsonObject *object, const char *key, int64 value)
{
	JsonbValue v = {.type = jbvNumeric};

	put_key(object, key);
	v.val.numeric = int64_to_numeric(value);
	pushJsonbValue_compat(&object->state, WJB_VALUE, &v);
}

/* Add a member that is any jsonb; none if the value is NULL. */
void
json_put_json(JsonObject *object, const char *key, Jsonb *value)
{
	JsonbValue v = {.type = jbvBinary};

	if (value == NULL)
		return;
	put_key(object, key);
	v.val.binary.data = &value->root;
	v.val.binary.len = VARSIZE(value) - VARHDRSZ;
	pushJsonbValue_compat(&object->state, WJB_VALUE, &v);
}

/* Finish the object; NULL if it has no members. */
Jsonb *
json_end(JsonObject *object)
{
	pushJsonbValue_compat(&object->state, WJB_END_OBJECT, NULL);
	return object->members > 0 ? JsonbValueToJsonb(object->state.result) : NULL;
}

/* A scalar as text (a string without its quotes); NULL for null, arrays and objects. */
char *
json_value_text(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

/* A scalar member of an object as text; NULL if there is no such member. */
char *
json_get_text(Jsonb *object, const char *key)
{
	JsonbValue buffer;
	JsonbValue *v;

	if (object == NULL || !JB_ROOT_IS_OBJECT(object))
		return NULL;
	v = getKeyJsonValueFromContainer(&object->root, key, strlen(key), &buffer);
	return v ? json_value_text(v) : NULL;
}
