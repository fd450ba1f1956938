/*
 * dashboard.sql
 *		Shows the dashboard, refreshed each second:
 *
 *		psql -X -d DATABASE -f dashboard.sql
 *
 * The dashboard is 100 columns wide; a smaller terminal shows a part of it.
 */
\set QUIET on
\pset format unaligned
\pset tuples_only on
\pset pager off
\pset recordsep_zero on
-- Write each line at its place, without line wrap, and clear the rest of the screen.
SELECT e'\x1b[?7l' || string_agg(format(e'\x1b[%s;1H%s\x1b[K', n, line), '' ORDER BY n) || e'\x1b[J\x1b[?7h'
FROM eda.dashboard() WITH ORDINALITY d(line, n) \watch 1
