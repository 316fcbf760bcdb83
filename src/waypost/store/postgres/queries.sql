-- name: head
SELECT doc, version, first, time_us, size_bytes, checksum, commit_id FROM {schema}.documents
WHERE kind = %(kind)s AND id = %(id)s AND version > 0

-- name: head_of
SELECT doc, version, first, time_us, size_bytes, checksum, commit_id FROM {schema}.documents WHERE doc = %(doc)s

-- name: head_at
SELECT c.doc, c.version, d.first, c.time_us, c.size_bytes, c.checksum, c.commit_id
FROM {schema}.commits c JOIN {schema}.documents d USING (doc)
WHERE d.kind = %(kind)s AND d.id = %(id)s AND c.version = %(version)s AND {schema}.is_kept(c.doc, c.version, c.commit_id)

-- name: changed_since
-- OFFSET 0 keeps the server from asking is_kept for each row
SELECT kept, p.* FROM (
    SELECT {schema}.is_kept(%(doc)s, %(since)s, %(since_id)s) AND {schema}.is_kept(%(doc)s, %(version)s, %(commit_id)s)
        AS kept OFFSET 0
) one LEFT JOIN (
    SELECT key, length, digest, CASE WHEN length <= %(inline)s THEN value END, content,
        value IS NULL AND content IS NULL, true
    FROM {schema}.parts WHERE doc = %(doc)s AND since > %(since)s AND since <= %(version)s AND until > %(version)s
    UNION ALL
    SELECT key, 0, 0, NULL, NULL, false, false
    FROM {schema}.parts WHERE doc = %(doc)s AND until > %(since)s AND until <= %(version)s AND since <= %(since)s
) p ON true

-- name: commit_id_at
SELECT commit_id FROM {schema}.commits WHERE doc = %(doc)s AND version = %(version)s

-- name: run_of_parts
SELECT kept, p.* FROM (SELECT {schema}.is_kept(%(doc)s, %(version)s, %(commit_id)s) AS kept OFFSET 0) one LEFT JOIN (
    SELECT key, length, digest, CASE WHEN length <= %(inline)s THEN value END, content, value IS NULL AND content IS NULL
    FROM {schema}.parts
    WHERE doc = %(doc)s AND until > %(version)s AND since <= %(version)s AND key >= %(start)s AND key < %(stop)s
    ORDER BY key LIMIT %(most)s
) p ON true

-- name: whole_value
SELECT value, content FROM {schema}.parts
WHERE doc = %(doc)s AND key = %(key)s AND until > %(version)s AND since <= %(version)s

-- name: keys_of
SELECT kept, p.* FROM (SELECT {schema}.is_kept(%(doc)s, %(version)s, %(commit_id)s) AS kept OFFSET 0) one LEFT JOIN (
    SELECT key, length, digest, content, value IS NULL AND content IS NULL FROM {schema}.parts
    WHERE doc = %(doc)s AND until > %(version)s AND since <= %(version)s AND key >= %(start)s AND key < %(stop)s
) p ON true

-- name: differing
SELECT kept, p.key FROM (
    SELECT {schema}.is_kept(%(doc)s, %(older)s, %(older_id)s) AND {schema}.is_kept(%(doc)s, %(newer)s, %(newer_id)s)
        AS kept OFFSET 0
) one LEFT JOIN (
    SELECT DISTINCT key FROM {schema}.parts
    WHERE doc = %(doc)s AND (since > %(older)s AND since <= %(newer)s OR until > %(older)s AND until <= %(newer)s)
) p ON true

-- name: piece
SELECT data, checksum FROM {schema}.pieces WHERE content = %(content)s AND number = %(number)s

-- name: content_of
SELECT length, piece FROM {schema}.contents WHERE content = %(content)s

-- name: operation
SELECT operation_id, version, time_us, operation, told FROM {schema}.commits
WHERE doc = %(doc)s AND operation_id = %(operation_id)s AND version <= %(version)s ORDER BY version DESC LIMIT 1

-- name: submit
SELECT * FROM {schema}.submit(%s, %s, %s, %b, %s, %b::bytea[], %b::bytea[], %s, %s, %s, %s, %s, %s, %b::bytea[],
    %s::bigint[], %s::numeric[], %b::bytea[], %s::bigint[], %b::bytea[], %b, %b, %s, %s, %s)

-- name: locked
SELECT * FROM {schema}.locked(%s, %s)

-- name: untouched
SELECT NOT {schema}.touched(%s, %s, %b::bytea[], %b::bytea[])
    AND (%s = 0 OR EXISTS (SELECT FROM {schema}.commits c WHERE c.doc = %s AND c.version = %s AND c.commit_id = %b))

-- name: append
SELECT a.doc, a.version, a.first, a.time_us, a.size_bytes, a.checksum, a.commit_id
FROM {schema}.documents d, {schema}.append(d, %b, %s, %s, %s, %s, %s, %s, %b::bytea[],
    %s::bigint[], %s::numeric[], %b::bytea[], %s::bigint[], %b::bytea[], %b, %b, %s, %s) a
WHERE d.doc = %s

-- name: drop_unwritten
DELETE FROM {schema}.documents WHERE kind = %s AND id = %s AND version = 0

-- name: versions_of
SELECT d.kind, d.id, d.version, d.commit_id FROM {schema}.documents d
JOIN unnest(%(kinds)s::text[], %(ids)s::text[]) AS a(kind, id) ON d.kind = a.kind AND d.id = a.id

-- name: commits_before
SELECT version, commit_id, time_us, operation_id, operation, session, agent, cleared, puts, removed, told, size_bytes, checksum
FROM {schema}.commits WHERE doc = %(doc)s AND version > %(first)s AND version < %(before)s ORDER BY version DESC LIMIT %(most)s

-- name: commits_after
SELECT version, commit_id, time_us, operation_id, operation, session, agent, cleared, puts, removed, told, size_bytes, checksum
FROM {schema}.commits WHERE doc = %(doc)s AND version > %(after)s AND version < %(before)s ORDER BY version LIMIT %(most)s

-- name: put_at
SELECT key, length, digest, value, content FROM {schema}.parts
WHERE doc = %(doc)s AND since = ANY (%(versions)s)

-- name: put_values
SELECT since, key, length, digest, CASE WHEN length <= %(inline)s THEN value END, content, value IS NULL AND content IS NULL
FROM {schema}.parts WHERE doc = %(doc)s AND since = ANY (%(versions)s)

-- name: commit_ids
SELECT version, commit_id FROM {schema}.commits WHERE doc = %(doc)s AND version <= %(first)s

-- name: remembered
SELECT operation_id, version, time_us, operation, told FROM {schema}.commits
WHERE doc = %(doc)s AND version <= %(first)s AND operation_id IS NOT NULL ORDER BY version

-- name: new_content
INSERT INTO {schema}.contents (length, piece) VALUES (%s, %s) RETURNING content

-- name: put_piece
INSERT INTO {schema}.pieces (content, number, checksum, data) VALUES (%s, %s, %s, %b)

-- name: documents
SELECT id FROM {schema}.documents WHERE kind = %s AND version > 0

-- name: glance
SELECT id, commit_id FROM {schema}.documents WHERE kind = %s AND version > 0

-- name: recall
SELECT data FROM {schema}.derived WHERE name = %s

-- name: keep
INSERT INTO {schema}.derived (name, data) VALUES (%s, %b) ON CONFLICT (name) DO UPDATE SET data = EXCLUDED.data

-- name: trim
SELECT {schema}.trim(%s, %s, %s, %s, %s)

-- name: keep_version
INSERT INTO {schema}.kept (doc, version)
SELECT doc, version FROM {schema}.documents WHERE kind = %(kind)s AND id = %(id)s AND version = %(version)s FOR KEY SHARE
ON CONFLICT DO NOTHING

-- name: forget_versions
DELETE FROM {schema}.kept k USING {schema}.documents d WHERE d.doc = k.doc AND d.kind = %(kind)s AND d.id = %(id)s
AND k.version NOT IN (SELECT n.version FROM {schema}.kept n WHERE n.doc = d.doc ORDER BY n.version DESC LIMIT %(most)s)

-- name: document_bytes
SELECT coalesce(sum(length + octet_length(key)) FILTER (WHERE until > d.first OR until = 9223372036854775807), 0)
FROM {schema}.documents d JOIN {schema}.parts p USING (doc) WHERE d.kind = %s AND d.id = %s

-- name: checkpoint_bytes
SELECT convert_from(substring(c.key FROM 12), 'UTF8'), sum(p.length + octet_length(p.key))
FROM {schema}.parts c JOIN {schema}.documents d USING (doc) JOIN {schema}.parts p USING (doc)
WHERE c.key = ANY (%(keys)s) AND c.until = 9223372036854775807
AND p.until <= d.first AND p.since <= c.since AND p.until > c.since
GROUP BY c.key

-- name: adopt
INSERT INTO {schema}.adopted (doc, kind, id, name) VALUES (%s, %s, %s, %s)

-- name: adopted
SELECT d.doc, d.version, d.first, d.time_us, d.size_bytes, d.checksum, d.commit_id
FROM {schema}.adopted a JOIN {schema}.documents d USING (doc)
WHERE a.kind = %(kind)s AND a.id = %(id)s AND a.name = %(name)s ORDER BY a.doc DESC LIMIT 1

-- name: all_adopted
SELECT a.doc FROM {schema}.adopted a WHERE a.kind = %s AND a.id = %s

-- name: renew_adopted
UPDATE {schema}.adopted SET made = clock_timestamp() WHERE doc = %s RETURNING 1

-- name: hold_adopted
SELECT name FROM {schema}.adopted WHERE kind = %s AND id = %s AND name = ANY (%s) FOR KEY SHARE

-- name: unused_contents
SELECT h.content FROM {schema}.contents h WHERE h.made < clock_timestamp() - interval '1 day'
AND NOT EXISTS (SELECT FROM {schema}.parts p WHERE p.content = h.content) FOR UPDATE SKIP LOCKED

-- name: sweep_contents
DELETE FROM {schema}.contents h WHERE h.content = ANY (%s)
AND NOT EXISTS (SELECT FROM {schema}.parts p WHERE p.content = h.content) RETURNING h.length

-- name: unused_adopted
SELECT a.doc FROM {schema}.adopted a WHERE a.made < clock_timestamp() - interval '1 day' AND NOT EXISTS (
    SELECT FROM {schema}.documents d JOIN {schema}.parts p USING (doc)
    WHERE d.kind = a.kind AND d.id = a.id AND p.until = 9223372036854775807
    AND p.key = convert_to('adopted' || chr(31) || a.name, 'UTF8')
    AND a.doc = (SELECT max(n.doc) FROM {schema}.adopted n WHERE n.kind = a.kind AND n.id = a.id AND n.name = a.name)
) FOR UPDATE SKIP LOCKED

-- name: sweep_adopted
DELETE FROM {schema}.documents v USING {schema}.adopted a WHERE v.doc = a.doc AND v.doc = ANY (%s) AND NOT EXISTS (
    SELECT FROM {schema}.documents d JOIN {schema}.parts p USING (doc)
    WHERE d.kind = a.kind AND d.id = a.id AND p.until = 9223372036854775807
    AND p.key = convert_to('adopted' || chr(31) || a.name, 'UTF8')
    AND a.doc = (SELECT max(n.doc) FROM {schema}.adopted n WHERE n.kind = a.kind AND n.id = a.id AND n.name = a.name)
) RETURNING v.size_bytes

-- name: claim
INSERT INTO {schema}.claims AS c (kind, id, holder, number, boot, clocks, steady_ns, period_ms, lease_ms)
VALUES (%(kind)s, %(id)s, %(holder)s, 1, %(boot)s, %(clocks)s, %(steady_ns)s, %(period_ms)s, %(lease_ms)s)
ON CONFLICT (kind, id) DO UPDATE SET holder = EXCLUDED.holder, number = 1, boot = EXCLUDED.boot, clocks = EXCLUDED.clocks,
    steady_ns = EXCLUDED.steady_ns, period_ms = EXCLUDED.period_ms, lease_ms = EXCLUDED.lease_ms, renewed = clock_timestamp()
WHERE %(by_force)s OR c.holder IN (%(holder)s, %(instead_of)s::uuid) OR c.renewed + c.lease_ms * interval '1 ms' < clock_timestamp()
RETURNING 1

-- name: beat
UPDATE {schema}.claims SET number = number + 1, steady_ns = %s, renewed = clock_timestamp() WHERE holder = ANY (%s)
RETURNING holder

-- name: release
DELETE FROM {schema}.claims WHERE holder = %s

-- name: holder
SELECT number, boot, clocks, steady_ns, period_ms,
    (extract(epoch FROM clock_timestamp() - renewed) * 1000)::bigint, lease_ms, holder
FROM {schema}.claims WHERE kind = %s AND id = %s

-- name: claimed
SELECT id FROM {schema}.claims WHERE kind = %s

-- name: arrive
UPDATE {schema}.documents SET kind = %s, id = %s WHERE doc = %s

-- name: new_document
INSERT INTO {schema}.documents (kind, id) VALUES (%s, %s) RETURNING doc

-- name: begin_document
UPDATE {schema}.documents SET version = %(version)s, first = %(first)s, arrived = %(arrived)s, time_us = %(time_us)s,
    size_bytes = %(size_bytes)s, checksum = %(checksum)s, commit_id = %(commit_id)s WHERE doc = %(doc)s

-- name: put_part
INSERT INTO {schema}.parts (doc, key, since, length, digest, value, content) VALUES (%s, %b, %s, %s, %s, %b, %s)

-- name: put_commit_id
INSERT INTO {schema}.commits (doc, version, commit_id, time_us, operation_id, operation, told, size_bytes,
    checksum) VALUES (%s, %s, %b, %s, %s, %s, %b, %s, %s)

-- name: listen
INSERT INTO {schema}.listeners (listener, expires) VALUES (%s, clock_timestamp() + interval '60 seconds')
ON CONFLICT (listener) DO UPDATE SET expires = EXCLUDED.expires

-- name: unlisten
DELETE FROM {schema}.listeners WHERE listener = %s OR expires < clock_timestamp()

-- name: durable
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'

-- name: erased_so_far
SELECT erased FROM {schema}.documents WHERE doc = %(doc)s

-- name: erased
UPDATE {schema}.documents SET erased = %b WHERE doc = %s

-- name: retell
UPDATE {schema}.commits SET told = %b WHERE doc = %s AND version = %s

-- name: told_of_dropped
SELECT c.version, c.time_us, c.told FROM {schema}.commits c
WHERE c.doc = %s AND c.puts IS NULL AND c.told IS NOT NULL AND c.time_us IS NOT NULL

-- name: rows_of
SELECT p.key, p.until, c.time_us FROM {schema}.parts p
LEFT JOIN {schema}.commits c ON c.doc = p.doc AND c.version = p.since
WHERE p.doc = %s AND (p.value IS NOT NULL OR p.content IS NOT NULL)

-- name: empty_part
WITH emptied AS (
    UPDATE {schema}.parts n SET value = NULL, content = NULL FROM {schema}.parts o
    WHERE n.doc = %s AND n.until = %s AND n.key = %b AND o.doc = n.doc AND o.until = n.until AND o.key = n.key
    RETURNING o.content
) DELETE FROM {schema}.contents h USING emptied e WHERE h.content = e.content

-- name: checkpoint_at
SELECT p.since, d.arrived, p.key = (%(keys)s::bytea[])[1] FROM {schema}.documents d JOIN {schema}.parts p USING (doc)
WHERE d.kind = %(kind)s AND d.id = %(id)s AND p.until = 9223372036854775807 AND p.key = ANY (%(keys)s)
ORDER BY p.key LIMIT 1

-- name: all_versions
-- without what is swept: the sum would shrink by that, and might come out as it was before a commit
SELECT coalesce(sum(version), 0)::bigint FROM {schema}.documents WHERE kind <> 'version'

-- name: server_time
SELECT extract(epoch FROM clock_timestamp())

-- name: server_facts
SELECT current_setting('server_version'), (SELECT version FROM {schema}.about), current_user::text,
    current_setting('is_superuser') = 'on',
    pg_has_role((SELECT nspowner FROM pg_namespace WHERE nspname = %(schema)s), 'USAGE'),
    has_table_privilege(to_regclass(quote_ident(%(schema)s) || '.documents'), 'INSERT')
        AND has_table_privilege(to_regclass(quote_ident(%(schema)s) || '.parts'), 'UPDATE'),
    current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on', current_setting('synchronous_commit'),
    current_setting('data_checksums') = 'on', pg_is_in_recovery(),
    coalesce((SELECT version || ' ' || cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl), ''),
    coalesce((SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relkind = 'r'
        AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s)), 0)
