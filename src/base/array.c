/*
 * array.c
 *		SQL arrays of numbers, and arrays in C that grow (by ARRAY_GROW(), see base.h).
 */
#include "base/base.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/memutils.h"

/* A bigint[] of n numbers. */
Datum
array_of_int8(const int64 *numbers, int n)
{
	Datum *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = Int64GetDatum(numbers[i]);
	return PointerGetDatum(construct_array(elements, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * Make room for one more element in an array of n, of which max are allocated: for ARRAY_GROW().
 * max changes only when the memory is there, because a caller may survive the error.
 */
void *
array_grow(void *array, int n, int *max, Size element, MemoryContext context)
{
	int size = Max(64, 2 * *max);

	if (n < *max)
		return array;
	array = array == NULL ? MemoryContextAllocHuge(context, element * size) : repalloc_huge(array, element * size);
	*max = size;
	return array;
}
