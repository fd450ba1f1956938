/*
 * dashboard.sql
 *		The dashboard on a screen of its own, drawn anew each second:
 *
 *		psql -X -d DATABASE -f dashboard.sql
 *
 * It is 100 columns wide; a smaller screen shows as much of it as there is room for.
 */
\set QUIET on
\pset format unaligned
\pset tuples_only on
\pset pager off
\pset recordsep_zero on
-- each line at its place, cut rather than wrapped, then nothing below
SELECT e'\x1b[?7l' || string_agg(format(e'\x1b[%s;1H%s\x1b[K', n, line), '' ORDER BY n) || e'\x1b[J\x1b[?7h'
FROM eda.dashboard() WITH ORDINALITY d(line, n) \watch 1
