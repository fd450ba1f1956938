/*
 * dashboard.sql
 *		The dashboard on a screen of its own, drawn anew each second:
 *
 *		psql -X -d DATABASE -f dashboard.sql
 */
\set QUIET on
\pset format unaligned
\pset tuples_only on
\pset pager off
-- to the top left, each line up to its end, then what is left below
SELECT e'\x1b[H' || string_agg(line || e'\x1b[K', e'\n') || e'\x1b[J' FROM eda.dashboard() \watch 1
