-- Print everything of the extension eda that the catalog knows, a line for each thing with its
-- definition: two databases in which the extension is the same print the same lines.
CREATE FUNCTION pg_temp.rights(acl aclitem[], kind "char", owner oid) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(format('%s may %s%s', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
		a.privilege_type, CASE WHEN a.is_grantable THEN ' and grant it' ELSE '' END), ', '
		ORDER BY a.grantee::regrole::text, a.privilege_type), 'nobody')
	FROM aclexplode(coalesce(acl, acldefault(kind, owner))) a;
$$;

CREATE TEMPORARY VIEW member AS
	SELECT d.classid, d.objid, d.objsubid, i.type, i.identity
	FROM pg_depend d CROSS JOIN pg_identify_object(d.classid, d.objid, d.objsubid) i
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'eda');

-- Tables, views, sequences, and the columns of composite types.
CREATE TEMPORARY VIEW relation AS
	SELECT c.*, m.identity FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
	UNION ALL
	SELECT c.*, m.identity FROM member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
	JOIN pg_class c ON c.oid = t.typrelid;

SELECT replace(line, E'\n', '\n') FROM (
	SELECT format('%s %s: %s', m.type, m.identity, coalesce(obj_description(m.objid, m.classid::regclass::name), 'no comment')) AS line
	FROM member m
	UNION ALL
	SELECT format('extension: schema %s, relocatable %s, dumped: %s', e.extnamespace::regnamespace, e.extrelocatable,
		(SELECT string_agg(format('%s %s', c.config::regclass, e.extcondition[c.n]), ', ' ORDER BY c.config::regclass::text COLLATE "C")
		FROM unnest(e.extconfig) WITH ORDINALITY c(config, n)))
	FROM pg_extension e WHERE e.extname = 'eda'
	UNION ALL
	SELECT format('schema %s: owner %s; %s', n.nspname, n.nspowner::regrole, pg_temp.rights(n.nspacl, 'n', n.nspowner))
	FROM member m JOIN pg_namespace n ON m.classid = 'pg_namespace'::regclass AND m.objid = n.oid
	UNION ALL
	SELECT format('relation %s: kind %s, owner %s, persistence %s, options %s, replica identity %s, row security %s %s, partition of %s %s, by %s; %s',
		r.identity, r.relkind, r.relowner::regrole, r.relpersistence, r.reloptions, r.relreplident, r.relrowsecurity, r.relforcerowsecurity,
		(SELECT i.inhparent::regclass FROM pg_inherits i WHERE i.inhrelid = r.oid), pg_get_expr(r.relpartbound, r.oid),
		CASE r.relkind WHEN 'p' THEN pg_get_partkeydef(r.oid) END,
		pg_temp.rights(r.relacl, CASE r.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", r.relowner))
	FROM relation r
	UNION ALL
	SELECT format('view %s: %s', r.identity, pg_get_viewdef(r.oid)) FROM relation r WHERE r.relkind IN ('v', 'm')
	UNION ALL
	SELECT format('sequence %s: %s', r.identity, to_jsonb(s) - 'seqrelid')
	FROM relation r JOIN pg_sequence s ON s.seqrelid = r.oid
	UNION ALL
	SELECT format('column %s.%s: number %s, %s, not null %s, default %s, collation %s, identity %s, generated %s, storage %s, compression %s, statistics %s; rights %s: %s',
		r.identity, a.attname, row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod), a.attnotnull,
		pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation, a.attidentity, a.attgenerated, a.attstorage, a.attcompression,
		nullif(a.attstattarget, -1), a.attacl, coalesce(col_description(r.oid, a.attnum), 'no comment'))
	FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
	LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
	UNION ALL
	SELECT format('index %s: valid %s, unique %s, clustered %s, replica identity %s: %s', pg_get_indexdef(x.indexrelid), x.indisvalid,
		x.indisunique, x.indisclustered, x.indisreplident, coalesce(obj_description(x.indexrelid, 'pg_class'), 'no comment'))
	FROM relation r JOIN pg_index x ON x.indrelid = r.oid
	UNION ALL
	SELECT format('constraint %s of %s: %s, validated %s: %s', c.conname, r.identity, pg_get_constraintdef(c.oid), c.convalidated,
		coalesce(obj_description(c.oid, 'pg_constraint'), 'no comment'))
	FROM relation r JOIN pg_constraint c ON c.conrelid = r.oid
	UNION ALL
	SELECT format('trigger of %s: %s, enabled %s: %s', r.identity, pg_get_triggerdef(t.oid), t.tgenabled,
		coalesce(obj_description(t.oid, 'pg_trigger'), 'no comment'))
	FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
	UNION ALL
	SELECT format('rule, policy or statistics of %s: %s', r.identity, x.definition)
	FROM relation r CROSS JOIN LATERAL (
		SELECT pg_get_ruledef(oid) AS definition FROM pg_rewrite WHERE ev_class = r.oid AND rulename <> '_RETURN'
		UNION ALL
		SELECT to_jsonb(p)::text FROM pg_policies p WHERE format('%I.%I', p.schemaname, p.tablename) = r.identity
		UNION ALL
		SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext WHERE stxrelid = r.oid) x
	UNION ALL
	SELECT format('function %s: owner %s; %s: %s', m.identity, p.proowner::regrole, pg_temp.rights(p.proacl, 'f', p.proowner), pg_get_functiondef(p.oid))
	FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid AND p.prokind <> 'a'
	UNION ALL
	SELECT format('type %s: owner %s, kind %s, base %s, not null %s, default %s, labels %s, constraints %s; %s', m.identity, t.typowner::regrole,
		t.typtype, format_type(t.typbasetype, t.typtypmod), t.typnotnull, t.typdefault,
		(SELECT string_agg(e.enumlabel, ' ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
		(SELECT string_agg(pg_get_constraintdef(c.oid), ' ' ORDER BY c.conname) FROM pg_constraint c WHERE c.contypid = t.oid),
		pg_temp.rights(t.typacl, 'T', t.typowner))
	FROM member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
	UNION ALL
	-- What pg_dump takes for given, and so does not dump.
	SELECT format('rights of %s %s that the extension gave: %s', i.type, i.identity, (
		SELECT string_agg(format('%s %s', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, a.privilege_type), ', '
			ORDER BY a.grantee::regrole::text, a.privilege_type)
		FROM aclexplode(p.initprivs) a))
	FROM pg_init_privs p JOIN member m ON m.classid = p.classoid AND m.objid = p.objoid AND p.objsubid = 0
	CROSS JOIN pg_identify_object(p.classoid, p.objoid, p.objsubid) i
	WHERE p.privtype = 'e') x
ORDER BY line COLLATE "C";
