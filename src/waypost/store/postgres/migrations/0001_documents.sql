-- Documents of parts, with all versions that are kept (docs/postgres.md, section 2).
-- Every name is qualified, and every function pins its search_path: nobody's schema comes in between.

CREATE TABLE {schema}.documents (
    doc         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    version     bigint NOT NULL DEFAULT 0,
    first       bigint NOT NULL DEFAULT 0,
    arrived     bigint NOT NULL DEFAULT 0,
    time_us     bigint NOT NULL DEFAULT 0,
    size_bytes  bigint NOT NULL DEFAULT 0,
    checksum    numeric(78) NOT NULL DEFAULT 0,
    commit_id   bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    erased      bytea,
    UNIQUE (kind, id)
) WITH (fillfactor = 50);
COMMENT ON TABLE {schema}.documents IS 'one row for each document: what it is at its newest version';
COMMENT ON COLUMN {schema}.documents.first IS 'the oldest version that is kept as a whole: commits after it are told';
COMMENT ON COLUMN {schema}.documents.checksum IS 'sum of the digests of all parts, modulo 2^256';
COMMENT ON COLUMN {schema}.documents.erased IS 'SHA-256 of what is to be erased, when that was last done';

-- A part is in the versions from `since` to before `until`; in the newest one where that is the largest bigint.
-- Where there is neither a value nor a content it was erased.
CREATE TABLE {schema}.parts (
    doc      bigint NOT NULL REFERENCES {schema}.documents ON DELETE CASCADE,
    key      bytea NOT NULL,
    since    bigint NOT NULL,
    until    bigint NOT NULL DEFAULT 9223372036854775807,
    length   bigint NOT NULL,
    digest   numeric(78) NOT NULL,
    value    bytea,
    content  bigint,
    PRIMARY KEY (doc, until, key)
);
CREATE INDEX parts_since ON {schema}.parts (doc, since);
COMMENT ON TABLE {schema}.parts IS 'the parts of documents, each for the versions that it is in';
COMMENT ON COLUMN {schema}.parts.digest IS 'SHA-256 over length of the key (4 bytes), key and value, as a number';

-- A commit, told as far as its values do not stand in `parts`. Of what history has dropped stay version and id, and
-- for a while the operation.
CREATE TABLE {schema}.commits (
    doc           bigint NOT NULL REFERENCES {schema}.documents ON DELETE CASCADE,
    version       bigint NOT NULL,
    commit_id     bytea,
    time_us       bigint,
    operation_id  text COLLATE "C",
    operation     text,
    session       text,
    agent         text,
    cleared       boolean NOT NULL DEFAULT false,
    puts          bytea[],
    removed       bytea[],
    told          bytea,
    size_bytes    bigint,
    checksum      numeric(78),
    PRIMARY KEY (doc, version)
);
CREATE INDEX commits_operation ON {schema}.commits (doc, operation_id) WHERE operation_id IS NOT NULL;

-- Values that are kept in pieces, taken in ahead of the commit that puts them.
CREATE TABLE {schema}.contents (
    content  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    length   bigint NOT NULL,
    piece    integer NOT NULL,
    made     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE {schema}.pieces (
    content  bigint NOT NULL REFERENCES {schema}.contents ON DELETE CASCADE,
    number   integer NOT NULL,
    checksum bigint NOT NULL,
    data     bytea NOT NULL,
    PRIMARY KEY (content, number)
);
CREATE INDEX parts_content ON {schema}.parts (content) WHERE content IS NOT NULL;

-- Versions of other histories that a document has taken in, each as a document of the kind 'version'.
CREATE TABLE {schema}.adopted (
    doc      bigint PRIMARY KEY REFERENCES {schema}.documents ON DELETE CASCADE,
    kind     text COLLATE "C" NOT NULL,
    id       text COLLATE "C" NOT NULL,
    name     text COLLATE "C" NOT NULL,
    made     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX adopted_name ON {schema}.adopted (kind, id, name);

-- Versions that are kept whatever becomes of history, beside those of checkpoints.
CREATE TABLE {schema}.kept (
    doc      bigint NOT NULL REFERENCES {schema}.documents ON DELETE CASCADE,
    version  bigint NOT NULL,
    PRIMARY KEY (doc, version)
);

-- Who holds a document, for as long as the lease runs by the clock of this server.
CREATE TABLE {schema}.claims (
    kind       text COLLATE "C" NOT NULL,
    id         text COLLATE "C" NOT NULL,
    holder     uuid NOT NULL,
    number     bigint NOT NULL,
    boot       text NOT NULL,
    clocks     text NOT NULL,
    steady_ns  bigint NOT NULL,
    period_ms  bigint NOT NULL,
    lease_ms   bigint NOT NULL,
    renewed    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, id)
) WITH (fillfactor = 50);

CREATE TABLE {schema}.derived (
    name  text COLLATE "C" PRIMARY KEY,
    data  bytea NOT NULL
);

-- Who waits for commits: they are announced while anyone does, since announcing makes commits wait for each other.
CREATE TABLE {schema}.listeners (
    listener  uuid PRIMARY KEY,
    expires   timestamptz NOT NULL
);

CREATE FUNCTION {schema}.locked(in_kind text, in_id text) RETURNS {schema}.documents
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE found_ {schema}.documents;
BEGIN
    LOOP  -- a row that was never written may be dropped while it is waited for
        SELECT * INTO found_ FROM {schema}.documents d WHERE d.kind = in_kind AND d.id = in_id FOR UPDATE;
        IF FOUND THEN
            RETURN found_;
        END IF;
        INSERT INTO {schema}.documents (kind, id) VALUES (in_kind, in_id) ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

-- Whether a commit after `base` touched what was read: a part, or which keys begin so.
CREATE FUNCTION {schema}.touched(in_doc bigint, base bigint, reads bytea[], prefixes bytea[]) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM {schema}.commits c WHERE c.doc = in_doc AND c.version > base
        AND (c.puts IS NULL OR c.cleared OR c.puts && reads OR c.removed && reads)
    ) OR (cardinality(prefixes) > 0 AND EXISTS (
        SELECT FROM {schema}.commits c, unnest(c.puts || c.removed) AS k(key), unnest(prefixes) AS p(prefix)
        WHERE c.doc = in_doc AND c.version > base AND substring(k.key FOR octet_length(p.prefix)) = p.prefix
        AND EXISTS (SELECT FROM {schema}.parts n WHERE n.doc = in_doc AND n.key = k.key AND n.until = 9223372036854775807)
            IS DISTINCT FROM
            EXISTS (SELECT FROM {schema}.parts b WHERE b.doc = in_doc AND b.key = k.key AND b.since <= base AND b.until > base)
    ))
$$;

-- Append a commit to a document whose row is locked. Its id follows from the one before where none is given.
CREATE FUNCTION {schema}.append(
    document {schema}.documents, in_commit_id bytea, in_time_us bigint, in_operation_id text, in_operation text,
    in_session text, in_agent text, in_cleared boolean, keys bytea[], lengths bigint[], digests numeric[],
    vals bytea[], in_contents bigint[], in_removed bytea[], hash bytea, in_told bytea, most_bytes bigint, durable boolean
) RETURNS {schema}.documents
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    old_size bigint;
    old_sum numeric;
    made {schema}.documents := document;
BEGIN
    made.version := document.version + 1;
    made.time_us := CASE WHEN in_commit_id IS NULL THEN greatest(in_time_us, document.time_us + 1) ELSE in_time_us END;
    made.commit_id := coalesce(in_commit_id, sha256(
        document.commit_id || int4send(octet_length(convert_to(in_operation_id, 'UTF8')))
        || convert_to(in_operation_id, 'UTF8') || hash));
    -- two statements, since a plan for both would look at every part of the document
    IF in_cleared THEN
        WITH closed AS (
            UPDATE {schema}.parts p SET until = made.version
            WHERE p.doc = document.doc AND p.until = 9223372036854775807
            RETURNING p.length + octet_length(p.key) AS size, p.digest
        ) SELECT coalesce(sum(size), 0), coalesce(sum(digest), 0) INTO old_size, old_sum FROM closed;
    ELSE
        WITH closed AS (
            UPDATE {schema}.parts p SET until = made.version
            WHERE p.doc = document.doc AND p.until = 9223372036854775807
            AND p.key = ANY (keys || in_removed)
            RETURNING p.length + octet_length(p.key) AS size, p.digest
        ) SELECT coalesce(sum(size), 0), coalesce(sum(digest), 0) INTO old_size, old_sum FROM closed;
    END IF;
    made.size_bytes := document.size_bytes - old_size
        + coalesce((SELECT sum(l + octet_length(k)) FROM unnest(keys, lengths) AS n(k, l)), 0);
    IF made.size_bytes > most_bytes THEN
        RAISE EXCEPTION 'too large: % bytes', made.size_bytes USING ERRCODE = 'WP001';
    END IF;
    IF EXISTS (SELECT FROM unnest(in_contents) AS c(content) WHERE c.content IS NOT NULL AND NOT EXISTS (
        SELECT FROM {schema}.contents h WHERE h.content = c.content FOR KEY SHARE)) THEN
        RAISE EXCEPTION 'a content was given up' USING ERRCODE = 'WP002';
    END IF;
    made.checksum := mod(mod(document.checksum - old_sum
        + coalesce((SELECT sum(d) FROM unnest(digests) AS n(d)), 0), 2::numeric ^ 256) + 2::numeric ^ 256, 2::numeric ^ 256);
    INSERT INTO {schema}.parts (doc, key, since, length, digest, value, content)
        SELECT document.doc, k, made.version, l, d, v, c
        FROM unnest(keys, lengths, digests, vals, in_contents) AS n(k, l, d, v, c);
    INSERT INTO {schema}.commits VALUES (
        document.doc, made.version, made.commit_id, made.time_us, in_operation_id, in_operation, in_session, in_agent,
        in_cleared, keys, in_removed, in_told, made.size_bytes, made.checksum);
    UPDATE {schema}.documents d SET version = made.version, time_us = made.time_us, size_bytes = made.size_bytes,
        checksum = made.checksum, commit_id = made.commit_id WHERE d.doc = document.doc;
    -- never less than what the server was told to do for every commit
    IF durable AND current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    ELSIF NOT durable THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    IF EXISTS (SELECT FROM {schema}.listeners WHERE expires > clock_timestamp()) THEN
        PERFORM pg_notify({channel}, document.kind || ' ' || document.doc || ' ' || made.version);
    END IF;
    RETURN made;
END $$;

-- A change of one document: appended, or what stands against it.
CREATE FUNCTION {schema}.submit(
    in_kind text, in_id text, base bigint, base_id bytea, repeatable boolean, reads bytea[], prefixes bytea[],
    in_time_us bigint, in_operation_id text, in_operation text,
    in_session text, in_agent text, in_cleared boolean, keys bytea[], lengths bigint[], digests numeric[],
    vals bytea[], in_contents bigint[], in_removed bytea[], hash bytea, in_told bytea, most_bytes bigint,
    durable boolean, patience text,
    OUT outcome text, OUT doc bigint, OUT version bigint, OUT first bigint, OUT time_us bigint, OUT size_bytes bigint,
    OUT checksum numeric, OUT commit_id bytea, OUT seen_version bigint, OUT seen_time_us bigint, OUT seen_operation text,
    OUT seen_told bytea
) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE document {schema}.documents;
BEGIN
    PERFORM set_config('lock_timeout', patience, true);
    document := {schema}.locked(in_kind, in_id);
    outcome := 'appended';
    IF repeatable OR document.version <> base THEN
        SELECT c.version, c.time_us, c.operation, c.told INTO seen_version, seen_time_us, seen_operation, seen_told
            FROM {schema}.commits c WHERE c.doc = document.doc AND c.operation_id = in_operation_id
            ORDER BY c.version DESC LIMIT 1;
        IF FOUND THEN
            outcome := 'repeated';
        ELSIF document.version <> base
            AND (base < document.first OR {schema}.touched(document.doc, base, reads, prefixes)) THEN
            outcome := 'conflict';
        END IF;
    END IF;
    -- the version that the work saw is not one of this document: an older copy was put back
    IF outcome = 'appended' AND base > 0 AND base_id IS DISTINCT FROM (CASE WHEN base = document.version
        THEN document.commit_id
        ELSE (SELECT c.commit_id FROM {schema}.commits c WHERE c.doc = document.doc AND c.version = base) END) THEN
        outcome := 'conflict';
    END IF;
    IF outcome = 'appended' THEN
        document := {schema}.append(document, NULL, in_time_us, in_operation_id, in_operation, in_session, in_agent,
            in_cleared, keys, lengths, digests, vals, in_contents, in_removed, hash, in_told, most_bytes, durable);
    END IF;
    doc := document.doc; version := document.version; first := document.first; time_us := document.time_us;
    size_bytes := document.size_bytes; checksum := document.checksum; commit_id := document.commit_id;
END $$;

-- Whether a version can still be read as a whole, and is the one of that id: another has its number where an older copy of
-- the server has taken its place.
CREATE FUNCTION {schema}.is_kept(in_doc bigint, in_version bigint, in_id bytea) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM {schema}.documents d WHERE d.doc = in_doc AND d.version = in_version AND d.commit_id = in_id
    ) OR EXISTS (
        SELECT FROM {schema}.documents d JOIN {schema}.commits c USING (doc)
        WHERE d.doc = in_doc AND in_version < d.version AND c.version = in_version AND c.commit_id = in_id
        AND (in_version >= d.first
            OR EXISTS (SELECT FROM {schema}.kept k WHERE k.doc = in_doc AND k.version = in_version)
            OR EXISTS (SELECT FROM {schema}.parts p WHERE p.doc = in_doc AND p.until = 9223372036854775807
                AND p.key >= 'checkpoint\037'::bytea AND p.key < 'checkpoint\040'::bytea AND p.since = in_version))
    )
$$;

-- Drop what no version needs that is kept: those from `first` on, and those of checkpoints. What was superseded less
-- than a while ago stays for who reads it just now. Gives how many bytes of values went.
CREATE FUNCTION {schema}.trim(in_kind text, in_id text, before_us bigint, most_bytes bigint, grace_us bigint)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    document {schema}.documents;
    until_first bigint;
    by_size bigint;
    freed bigint;
BEGIN
    SELECT * INTO document FROM {schema}.documents d WHERE d.kind = in_kind AND d.id = in_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    SELECT coalesce(max(c.version), document.first) INTO until_first FROM {schema}.commits c
        WHERE c.doc = document.doc AND c.version > document.first AND c.time_us < before_us;
    SELECT s.version INTO by_size FROM (
        SELECT c.version, sum(p.length) OVER (ORDER BY c.version DESC) AS bytes
        FROM {schema}.commits c JOIN {schema}.parts p ON p.doc = c.doc AND p.since = c.version
        WHERE c.doc = document.doc AND c.version > until_first
    ) s WHERE s.bytes > most_bytes ORDER BY s.version DESC LIMIT 1;
    IF by_size IS NOT NULL THEN  -- but not what was superseded within a while: whoever reads it now finds all of it
        by_size := least(by_size, (SELECT coalesce(max(c.version), 0) FROM {schema}.commits c WHERE c.doc = document.doc
            AND c.time_us <= extract(epoch FROM clock_timestamp()) * 1000000 - grace_us));
    END IF;
    until_first := greatest(until_first, document.first, coalesce(by_size, 0));
    UPDATE {schema}.commits c SET puts = NULL, removed = NULL
        WHERE c.doc = document.doc AND c.version <= until_first AND c.version > document.first;
    UPDATE {schema}.commits c SET operation_id = NULL, operation = NULL, told = NULL, session = NULL, agent = NULL
        WHERE c.doc = document.doc AND c.version <= until_first AND c.version <= document.version - 10000
        AND c.operation_id IS NOT NULL
        AND c.time_us < extract(epoch FROM clock_timestamp()) * 1000000 - 7 * 86400000000;
    UPDATE {schema}.documents d SET first = until_first WHERE d.doc = document.doc AND d.first <> until_first;
    WITH needed AS (
        SELECT p.since AS version FROM {schema}.parts p WHERE p.doc = document.doc AND p.until = 9223372036854775807
            AND p.key >= 'checkpoint\037'::bytea AND p.key < 'checkpoint\040'::bytea
        UNION SELECT k.version FROM {schema}.kept k WHERE k.doc = document.doc
    ), gone AS (
        DELETE FROM {schema}.parts p WHERE p.doc = document.doc AND p.until <= until_first
        AND NOT EXISTS (SELECT FROM needed n WHERE n.version >= p.since AND n.version < p.until)
        AND coalesce((SELECT c.time_us FROM {schema}.commits c WHERE c.doc = p.doc AND c.version = p.until), 0)
            <= extract(epoch FROM clock_timestamp()) * 1000000 - grace_us
        RETURNING p.length + octet_length(p.key) AS bytes, p.content
    ), given_up AS (
        DELETE FROM {schema}.contents h WHERE h.content IN (SELECT g.content FROM gone g)
    ) SELECT coalesce(sum(bytes), 0) INTO freed FROM gone;
    RETURN freed;
END $$;
