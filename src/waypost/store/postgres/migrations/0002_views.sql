-- State as SQL users read it (docs/postgres.md, section 9): values as jsonb, and a view for each kind of document.
-- Nothing here is kept, and nothing of Waypost reads it. Names are resolved now, and not when a view is used.

SET LOCAL search_path = pg_catalog, pg_temp;

-- --- values: MessagePack, as `waypost.codec.values` lays it out ---
--
-- These functions read no table, and give null rather than an error for bytes that are none of ours: one damaged value
-- keeps nobody from reading the rest. They catch no errors either, since that forbids parallel workers before 17, but
-- look before each step. Nothing calls itself.

-- Text as it is in UTF-8; null where it is not. jsonb and text hold no NUL: U+FFFD stands for it.
CREATE FUNCTION {schema}.readable(data bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    whole bytea := data;
    latin text;
BEGIN
    IF position(decode('00', 'hex') IN whole) > 0 THEN
        whole := decode(replace(regexp_replace(encode(whole, 'hex'), '(..)', '\1 ', 'g'), '00 ', 'efbfbd '), 'hex');
    END IF;
    latin := convert_from(whole, 'LATIN1');
    IF octet_length(latin) = octet_length(whole) THEN
        RETURN latin;  -- nothing but ASCII
    END IF;
    IF latin ~ ('^(?:[\u0001-\u007f]|[\u00c2-\u00df][\u0080-\u00bf]|\u00e0[\u00a0-\u00bf][\u0080-\u00bf]'
        '|[\u00e1-\u00ec\u00ee\u00ef][\u0080-\u00bf][\u0080-\u00bf]|\u00ed[\u0080-\u009f][\u0080-\u00bf]'
        '|\u00f0[\u0090-\u00bf][\u0080-\u00bf][\u0080-\u00bf]|\u00f4[\u0080-\u008f][\u0080-\u00bf][\u0080-\u00bf]'
        '|[\u00f1-\u00f3][\u0080-\u00bf][\u0080-\u00bf][\u0080-\u00bf])*$') THEN
        RETURN convert_from(whole, 'UTF8');
    END IF;
    RETURN NULL;
END $$;

-- A path's bytes as text, those that are no UTF-8 written out (\xff).
CREATE FUNCTION {schema}.readable_path(data bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_ text := {schema}.readable(data);
    piece bytea;
    width integer;
    pos integer := 1;
BEGIN
    IF found_ IS NOT NULL THEN
        RETURN found_;
    END IF;
    found_ := '';
    WHILE pos <= octet_length(data) LOOP
        width := CASE WHEN get_byte(data, pos - 1) >= 240 THEN 4 WHEN get_byte(data, pos - 1) >= 224 THEN 3
            WHEN get_byte(data, pos - 1) >= 192 THEN 2 ELSE 1 END;
        piece := substring(data FROM pos FOR width);
        IF {schema}.readable(piece) IS NULL THEN
            width := 1;
            found_ := found_ || '\x' || encode(substring(data FROM pos FOR 1), 'hex');
        ELSE
            found_ := found_ || {schema}.readable(piece);
        END IF;
        pos := pos + width;
    END LOOP;
    RETURN found_;
END $$;

-- An integer in two's complement: its decimals, or hexadecimal digits beyond 14,000 bits.
CREATE FUNCTION {schema}.readable_integer(data bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    digits text := encode(data, 'hex');
    sign text := '';
    cut text;
    number numeric := 0;
BEGIN
    IF digits >= '8' THEN  -- its magnitude: each bit inverted, and one more
        sign := '-';
        digits := translate(digits, '0123456789abcdef', 'fedcba9876543210');
        cut := rtrim(digits, 'f');
        digits := CASE WHEN cut = '' THEN '1' ELSE
            left(cut, -1) || substr('123456789abcdef', strpos('0123456789abcde', right(cut, 1)), 1) END
            || repeat('0', length(digits) - length(cut));
    END IF;
    digits := ltrim(digits, '0');
    IF length(digits) > 3500 THEN
        RETURN sign || '0x' || digits;
    END IF;
    digits := lpad(digits, (length(digits) + 11) / 12 * 12, '0');
    FOR pos IN 0 .. length(digits) / 12 - 1 LOOP
        number := number * 281474976710656
            + ('x' || lpad(substr(digits, pos * 12 + 1, 12), 16, '0'))::bit(64)::bigint;
    END LOOP;
    RETURN sign || number;
END $$;

-- The float with these bits (IEEE 754), `width` of them for the fraction. Two factors, since one may be out of range.
CREATE FUNCTION {schema}.float_of(bits bigint, width integer, is_negative boolean) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most integer := CASE width WHEN 52 THEN 2047 ELSE 255 END;
    exponent integer := (bits >> width) & most;
    fraction bigint := bits & ((1::bigint << width) - 1);
    found_ double precision;
BEGIN
    IF exponent = most THEN
        found_ := CASE fraction WHEN 0 THEN 'Infinity' ELSE 'NaN' END;
    ELSE
        IF exponent = 0 THEN
            exponent := 1;
        ELSE
            fraction := fraction + (1::bigint << width);
        END IF;
        exponent := exponent - most / 2 - width;
        found_ := fraction::double precision * power(2::double precision, exponent / 2)
            * power(2::double precision, exponent - exponent / 2);
    END IF;
    RETURN CASE WHEN is_negative THEN -found_ ELSE found_ END;
END $$;

-- A finite float in as few digits as lead back to it, as Python and JSON write it.
CREATE FUNCTION {schema}.readable_float(number double precision) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
    digits text := number::text;
    shorter text;
BEGIN
    IF abs(number) < 1e16 AND (abs(number) >= 1e-4 OR number = 0) THEN
        digits := CASE WHEN number = 0 THEN digits ELSE trim_scale(digits::numeric)::text END;
        RETURN CASE WHEN strpos(digits, '.') > 0 THEN digits ELSE digits || '.0' END;
    END IF;
    -- the server never takes a number that lies just between two floats, Python does
    IF length(replace(split_part(digits, 'e', 1), '-', '')) = 18 AND abs(number) < 1e308 THEN
        shorter := trim_scale(round(split_part(digits, 'e', 1)::numeric, 15)) || 'e' || split_part(digits, 'e', 2);
        digits := CASE WHEN shorter::double precision = number THEN shorter ELSE digits END;
    END IF;
    RETURN digits;
END $$;

-- A moment in UTC, in seconds and nanoseconds since 1970; null beyond the years 1 to 9999.
CREATE FUNCTION {schema}.readable_moment(seconds bigint, nanos bigint) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN seconds BETWEEN -62135596800 AND 253402300799 AND nanos BETWEEN 0 AND 999999999 THEN
        to_char(timestamp '1970-01-01 00:00:00' + seconds * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS')
        || CASE WHEN nanos < 1000 THEN '' ELSE '.' || lpad((nanos / 1000)::text, 6, '0') END || '+00:00' END
$$;

-- A moment as [text, fold, zone]. Of a named zone it has the name in place of the offset, since rules of time zones
-- change, and those of this server are not those of who wrote it.
CREATE FUNCTION {schema}.readable_moment(given jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    zone jsonb := CASE jsonb_typeof(given -> 2) WHEN 'array' THEN given -> 2 -> 0 ELSE given -> 2 END;
    offset_us numeric;
    left_us bigint;
BEGIN
    IF jsonb_typeof(given -> 0) <> 'string' THEN
        RETURN NULL;
    END IF;
    CASE jsonb_typeof(zone)
    WHEN 'null' THEN
        RETURN given ->> 0;
    WHEN 'string' THEN
        RETURN (given ->> 0) || '[' || (zone #>> ARRAY[]::text[]) || CASE WHEN given -> 1 = '1' THEN ', fold 1]' ELSE ']' END;
    WHEN 'number' THEN
        offset_us := (zone #>> ARRAY[]::text[])::numeric;
        IF abs(offset_us) >= 86400000000 THEN
            RETURN NULL;
        END IF;
        left_us := abs(offset_us);
        RETURN (given ->> 0) || CASE WHEN offset_us < 0 THEN '-' ELSE '+' END
            || lpad((left_us / 3600000000)::text, 2, '0') || ':' || lpad((left_us / 60000000 % 60)::text, 2, '0')
            || CASE WHEN left_us % 60000000 = 0 THEN '' ELSE ':' || lpad((left_us / 1000000 % 60)::text, 2, '0') END
            || CASE WHEN left_us % 1000000 = 0 THEN '' ELSE '.' || lpad((left_us % 1000000)::text, 6, '0') END;
    ELSE
        RETURN NULL;
    END CASE;
END $$;

-- A value as `--json` shows it. Null for bytes that are no value of ours, that are nested deeper than 128 levels, or
-- more than 32 MiB.
--
-- JSON is put together of pieces: containers that are open stand in arrays, at `depth`. `kind` is [ for what is shown
-- as a list, and for a dict with text keys, P for one with others, S for a set, O for an object of a registered type, D
-- for a moment and Z for its zone, X for what is a text in a wrapper.
CREATE FUNCTION {schema}.unpack(data bytea) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 5000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most_levels CONSTANT integer := 128;
    bytes bytea;
    size integer := octet_length(data);
    pos integer := 0;
    head integer;
    code integer;
    width integer;
    number bigint;
    bits text;

    pieces text[] := ARRAY[]::text[];
    used integer := 0;
    depth integer := 0;
    levels integer := 0;
    kind text[] := ARRAY[]::text[];
    named text[] := ARRAY[]::text[];
    items bigint[] := ARRAY[]::bigint[];
    lefts bigint[] := ARRAY[]::bigint[];
    ends integer[] := ARRAY[]::integer[];
    begun integer[] := ARRAY[]::integer[];
    opens text;
    opens_as text;
    opens_items bigint;
    opens_end integer;
    inside text;
    item bigint;

    -- the value that was read last: its type as Python calls it, its text, and what sets of such sort by
    last_type text;
    last_text text;
    last_number numeric;
    last_bytes bytea;
    is_text boolean;

    set_types text[] := ARRAY[]::text[];
    set_numbers numeric[];
    set_bytes bytea[];
    sorted text[];

    key_from integer[] := ARRAY[]::integer[];
    key_base integer[] := ARRAY[]::integer[];
    keys integer := 0;
    key_texts text[] := ARRAY[]::text[];
    key_types text[] := ARRAY[]::text[];
    key_places integer[] := ARRAY[]::integer[];
    key text;
    shown text[];
BEGIN
    IF size = 0 OR size > 33554432 THEN
        RETURN NULL;
    END IF;
    bytes := data || ''::bytea;  -- unfolded once: else each look at a compressed value would do that again
    LOOP
        -- what comes next: a value, or its key
        IF pos >= size THEN
            RETURN NULL;
        END IF;
        inside := CASE WHEN depth > 0 THEN kind[depth] ELSE '' END;
        item := CASE WHEN depth > 0 THEN items[depth] - lefts[depth] ELSE 0 END;
        IF inside = 'P' THEN
            IF item > 0 AND item % 2 = 0 THEN
                used := used + 1;
                pieces[used] := ', ';
            END IF;
            key_from[depth] := used + 1;
        ELSIF inside = 'O' THEN
            used := used + 1;
            pieces[used] := CASE item WHEN 0 THEN '{{"$type": ' ELSE ', "value": ' END;
        ELSIF item > 0 AND (inside <> '{{' OR item % 2 = 0) THEN
            used := used + 1;
            pieces[used] := ', ';
        END IF;

        head := get_byte(bytes, pos);
        pos := pos + 1;
        opens := NULL;
        opens_end := NULL;
        last_text := NULL;
        last_number := NULL;
        last_bytes := NULL;
        is_text := false;
        code := NULL;
        number := 0;
        width := -1;
        IF head < 128 OR head >= 224 THEN
            last_type := 'int';
            last_number := CASE WHEN head < 128 THEN head ELSE head - 256 END;
            last_text := last_number::text;
        ELSIF head < 144 THEN
            opens := '{{';
            opens_items := 2 * (head - 128);
        ELSIF head < 160 THEN
            opens := '[';
            opens_items := head - 144;
        ELSIF head < 192 THEN
            last_type := 'str';
            width := head - 160;
        ELSE
            width := (ARRAY[0,0,0,0, 1,2,4, 1,2,4, 4,8, 1,2,4,8, 1,2,4,8, 0,0,0,0,0, 1,2,4, 2,4, 2,4])[head - 191];
            IF pos + width > size THEN
                RETURN NULL;
            END IF;
            bits := encode(substring(bytes FROM pos + 1 FOR width), 'hex');
            number := ('x' || lpad(bits, 16, '0'))::bit(64)::bigint;
            pos := pos + width;
            width := -1;
            CASE
            WHEN head = 192 THEN
                last_type := 'NoneType';
                last_text := 'null';
            WHEN head IN (194, 195) THEN
                last_type := 'bool';
                last_text := CASE head WHEN 194 THEN 'false' ELSE 'true' END;
            WHEN head IN (196, 197, 198) THEN
                last_type := 'bytes';
                width := least(number, size + 1);
            WHEN head IN (199, 200, 201) OR head BETWEEN 212 AND 216 THEN
                IF head >= 212 THEN
                    number := 1 << (head - 212);
                END IF;
                IF pos + 1 + number > size THEN
                    RETURN NULL;
                END IF;
                code := get_byte(bytes, pos);
                pos := pos + 1;
                width := number;
            WHEN head IN (202, 203) THEN
                last_type := 'float';
                DECLARE
                    found_ double precision := {schema}.float_of(
                        number, CASE head WHEN 203 THEN 52 ELSE 23 END, bits >= '8');
                BEGIN
                    IF found_ IN ('NaN', 'Infinity', '-Infinity') THEN
                        last_text := CASE found_ WHEN 'NaN' THEN 'nan' WHEN 'Infinity' THEN 'inf' ELSE '-inf' END;
                        last_number := found_::numeric;
                        is_text := true;
                    ELSE
                        last_text := {schema}.readable_float(found_);
                        last_number := last_text::numeric;
                    END IF;
                END;
            WHEN head BETWEEN 204 AND 211 THEN
                last_type := 'int';
                last_number := number;
                IF head = 207 AND number < 0 THEN
                    last_number := last_number + 18446744073709551616;
                ELSIF head IN (208, 209, 210) AND bits >= '8' THEN
                    last_number := last_number - (1::bigint << (4 * length(bits)));
                END IF;
                last_text := last_number::text;
            WHEN head IN (217, 218, 219) THEN
                last_type := 'str';
                width := least(number, size + 1);
            WHEN head IN (220, 221) THEN
                opens := '[';
                opens_items := number;
            WHEN head IN (222, 223) THEN
                opens := '{{';
                opens_items := 2 * number;
            ELSE
                RETURN NULL;
            END CASE;
        END IF;

        -- what has a length: text, bytes, and extensions
        IF width >= 0 THEN
            IF width > size - pos THEN
                RETURN NULL;
            END IF;
            IF code IS NOT NULL AND code BETWEEN 2 AND 10 AND code NOT IN (7, 9) THEN  -- what holds MessagePack
                opens_end := pos + width;
                IF code IN (6, 8) THEN
                    opens := 'X';
                    opens_items := 1;
                ELSE
                    opens := (ARRAY['', 'P', '[', 'S', 'D', '', '', '', '', 'O'])[code];
                    IF width = 0 THEN
                        RETURN NULL;
                    END IF;
                    head := get_byte(bytes, pos);
                    number := CASE head WHEN 220 THEN 2 WHEN 221 THEN 4 ELSE 0 END;
                    IF number + 1 > width OR (number = 0 AND (head < 144 OR head >= 160)) THEN
                        RETURN NULL;
                    END IF;
                    opens_items := CASE number WHEN 0 THEN head - 144 ELSE
                        ('x' || lpad(encode(substring(bytes FROM pos + 2 FOR number::integer), 'hex'), 16, '0'))
                            ::bit(64)::bigint END;
                    pos := pos + 1 + number;
                END IF;
                opens_as := (ARRAY['', 'dict', 'tuple', 'set', 'datetime', 'date', '', 'Decimal', '', 'Unregistered'])[code];
                IF inside IN ('D', 'Z', 'X') OR (opens = 'P' AND opens_items % 2 = 1)
                    OR (opens = 'D' AND opens_items <> 3) OR (opens = 'O' AND opens_items <> 2) THEN
                    RETURN NULL;
                END IF;
            ELSE
                last_bytes := substring(bytes FROM pos + 1 FOR width);
                pos := pos + width;
                is_text := true;
                CASE
                WHEN code IS NULL AND last_type = 'str' THEN
                    last_text := {schema}.readable(last_bytes);
                WHEN code IS NULL THEN
                    last_text := replace(encode(last_bytes, 'base64'), chr(10), '');
                WHEN code = 1 THEN
                    last_type := 'int';
                    last_text := {schema}.readable_integer(last_bytes);
                    is_text := strpos(last_text, 'x') > 0;
                    last_number := CASE WHEN NOT is_text THEN last_text::numeric END;
                WHEN code = 7 AND width = 16 THEN
                    last_type := 'UUID';
                    last_text := encode(last_bytes, 'hex')::uuid::text;
                WHEN code = 9 THEN
                    last_type := 'PosixPath';
                    last_text := {schema}.readable_path(last_bytes);
                WHEN code = 255 AND width IN (4, 8, 12) THEN
                    last_type := 'datetime';
                    bits := encode(last_bytes, 'hex');
                    number := ('x' || lpad(right(bits, 16), 16, '0'))::bit(64)::bigint;
                    last_text := CASE width
                        WHEN 4 THEN {schema}.readable_moment(number, 0)
                        WHEN 8 THEN {schema}.readable_moment(number & 17179869183, (number >> 34) & 1073741823)
                        ELSE {schema}.readable_moment(number, ('x' || lpad(left(bits, 8), 16, '0'))::bit(64)::bigint) END;
                ELSE
                    RETURN NULL;
                END CASE;
                IF last_text IS NULL THEN
                    RETURN NULL;
                END IF;
            END IF;
        ELSIF opens IS NOT NULL THEN
            opens_as := CASE opens WHEN '[' THEN 'list' ELSE 'dict' END;
            IF inside = 'D' AND opens = '[' THEN
                opens := 'Z';
            ELSIF inside IN ('D', 'Z', 'X') THEN
                RETURN NULL;
            END IF;
        END IF;

        IF opens IS NOT NULL THEN
            IF opens_items > size - pos OR (inside = '{{' AND item % 2 = 0) OR (inside = 'O' AND item = 0) THEN
                RETURN NULL;
            END IF;
            IF opens NOT IN ('D', 'Z', 'X') THEN
                levels := levels + 1;
                IF levels > most_levels THEN
                    RETURN NULL;
                END IF;
            END IF;
            depth := depth + 1;
            kind[depth] := opens;
            named[depth] := opens_as;
            items[depth] := opens_items;
            lefts[depth] := opens_items;
            ends[depth] := opens_end;
            IF opens NOT IN ('X', 'O') THEN
                used := used + 1;
                pieces[used] := CASE WHEN opens IN ('{{', 'P') THEN '{{' ELSE '[' END;
            END IF;
            begun[depth] := used;
            key_base[depth] := keys;
            set_types[depth] := NULL;
            IF opens = 'S' THEN
                set_numbers := ARRAY[]::numeric[];
                set_bytes := ARRAY[]::bytea[];
            END IF;
            IF opens_items > 0 THEN
                CONTINUE;
            END IF;
        ELSE
            used := used + 1;
            pieces[used] := CASE WHEN is_text THEN to_json(last_text)::text ELSE last_text END;
            IF (inside = '{{' AND item % 2 = 0) OR inside = 'X' OR (inside = 'O' AND item = 0) THEN
                IF last_type <> 'str' THEN
                    RETURN NULL;
                END IF;
                IF inside = '{{' THEN
                    pieces[used] := pieces[used] || ': ';
                END IF;
            END IF;
        END IF;

        -- a value is complete, and perhaps what it stands in
        LOOP
            IF opens IS NULL THEN
                IF depth = 0 THEN
                    IF pos <> size THEN
                        RETURN NULL;
                    END IF;
                    RETURN array_to_string(pieces[1:used], '')::jsonb;
                END IF;
                lefts[depth] := lefts[depth] - 1;
                IF kind[depth] = 'S' THEN
                    item := items[depth] - lefts[depth];
                    set_types[depth] := CASE WHEN item = 1 OR set_types[depth] = last_type THEN last_type ELSE '' END;
                    IF last_type IN ('int', 'float', 'Decimal', 'str', 'bytes') THEN
                        set_numbers[item] := last_number;
                        set_bytes[item] := last_bytes;
                    END IF;
                ELSIF kind[depth] = 'P' AND lefts[depth] % 2 = 1 THEN
                    keys := keys + 1;
                    key_types[keys] := last_type;
                    key_places[keys] := key_from[depth];
                    IF last_text IS NULL THEN
                        last_text := '';
                        FOR place IN key_from[depth] .. used LOOP
                            last_text := last_text || pieces[place];
                        END LOOP;
                    END IF;
                    key_texts[keys] := last_text;
                    used := key_from[depth];
                END IF;
            END IF;
            opens := NULL;
            EXIT WHEN depth = 0 OR lefts[depth] > 0;

            IF pos <> ends[depth] THEN
                RETURN NULL;
            END IF;
            inside := kind[depth];
            last_type := named[depth];
            CASE
            WHEN inside = 'X' THEN
                IF last_type = 'Decimal' THEN
                    last_number := CASE
                        WHEN last_text ~ 'NaN' THEN 'NaN'
                        WHEN length(last_text) < 5000 AND last_text ~ '^-?(([0-9]+[.]?[0-9]*|[.][0-9]+)(E[+-]?[0-9][0-9]?[0-9]?[0-9]?)?|Infinity)$'
                            THEN last_text::numeric END;
                END IF;
                last_bytes := NULL;
            WHEN inside = 'D' THEN
                last_text := '';
                FOR place IN begun[depth] .. used LOOP
                    last_text := last_text || pieces[place];
                END LOOP;
                last_text := {schema}.readable_moment((last_text || ']')::jsonb);
                IF last_text IS NULL THEN
                    RETURN NULL;
                END IF;
                used := begun[depth];
                pieces[used] := to_json(last_text)::text;
            ELSE
                IF inside = 'S' AND items[depth] > 1 THEN
                    -- by value where they are all of one type that has an order, else as they are stored: by their bytes
                    sorted := NULL;
                    IF set_types[depth] IN ('int', 'float', 'Decimal') AND array_position(set_numbers, NULL) IS NULL THEN
                        SELECT array_agg(pieces[begun[depth] + 2 * e.place - 1] ORDER BY e.number) INTO sorted
                            FROM unnest(set_numbers) WITH ORDINALITY AS e(number, place);
                    ELSIF set_types[depth] IN ('str', 'bytes') THEN
                        SELECT array_agg(pieces[begun[depth] + 2 * e.place - 1] ORDER BY e.bytes) INTO sorted
                            FROM unnest(set_bytes) WITH ORDINALITY AS e(bytes, place);
                    END IF;
                    FOR place IN 1 .. coalesce(cardinality(sorted), 0) LOOP
                        pieces[begun[depth] + 2 * place - 1] := sorted[place];
                    END LOOP;
                ELSIF inside = 'P' THEN
                    -- a key that is no text says its type where it would be taken for another
                    shown := key_texts[key_base[depth] + 1 : keys];
                    IF cardinality(shown) > (SELECT count(DISTINCT e.text) FROM unnest(shown) AS e(text)) THEN
                        FOR place IN key_base[depth] + 1 .. keys LOOP
                            key := key_texts[place];
                            WHILE key_types[place] <> 'str' AND EXISTS (
                                SELECT FROM generate_series(key_base[depth] + 1, keys) AS o(place_)
                                WHERE key_texts[o.place_] = key
                                AND (o.place_ < place OR (key_types[o.place_] = 'str' AND o.place_ <> place))
                            ) LOOP
                                key := key || ' (' || key_types[place] || ')';
                            END LOOP;
                            key_texts[place] := key;
                        END LOOP;
                    END IF;
                    FOR place IN key_base[depth] + 1 .. keys LOOP
                        pieces[key_places[place]] := to_json(key_texts[place])::text || ': ';
                    END LOOP;
                    keys := key_base[depth];
                END IF;
                last_text := NULL;
                used := used + 1;
                pieces[used] := CASE WHEN inside IN ('{{', 'P', 'O') THEN '}}' ELSE ']' END;
            END CASE;
            IF inside NOT IN ('D', 'Z', 'X') THEN
                levels := levels - 1;
            END IF;
            depth := depth - 1;
        END LOOP;
    END LOOP;
END $$;

-- --- records: arrays of values, whose names are those of the models ---

-- The fields of a record, in their order, as in `waypost.models`, `waypost.records` and `waypost.session_records`.
CREATE FUNCTION {schema}.fields(record text) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE record
        WHEN 'workflow' THEN ARRAY['name', 'created_us', 'schema_version', 'paused', 'applications']
        WHEN 'context' THEN ARRAY['session_id', 'user_id', 'environment']
        WHEN 'step' THEN ARRAY['id', 'name', 'agent_id', 'status', 'start_time', 'end_time', 'dependencies', 'parallel',
            'retry_count', 'max_retries', 'error', 'interruptions', 'owner', 'output_version']
        WHEN 'owner' THEN ARRAY['host', 'boot', 'namespace', 'pid', 'start']
        WHEN 'output' THEN ARRAY['step_id', 'agent_id', 'timestamp', 'size_bytes', 'checksum', 'version', 'value', 'name']
        WHEN 'tombstone' THEN ARRAY['workflow_id', 'deleted_at', 'session_id']
        WHEN 'session' THEN ARRAY['user_id', 'started_us', 'schema_version', 'status', 'number', 'owner', 'ended_us']
        WHEN 'recovery' THEN ARRAY['number', 'time_us', 'evidence', 'owner', 'found']
    END
$$;

-- A record with its fields by name, an owner in it likewise. (OFFSET 0, here and below: what is within is computed once,
-- and not for each of its uses.)
CREATE FUNCTION {schema}.record(data bytea, record text) RETURNS jsonb
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_object_agg(f.name, CASE WHEN f.name = 'owner' AND jsonb_typeof(r.row -> (f.place - 1)::integer) = 'array'
        THEN (SELECT jsonb_object_agg(o.name, r.row -> (f.place - 1)::integer -> (o.place - 1)::integer)
            FROM unnest({schema}.fields('owner')) WITH ORDINALITY AS o(name, place))
        ELSE r.row -> (f.place - 1)::integer END)
    FROM (SELECT {schema}.unpack(data) AS row OFFSET 0) r,
        unnest({schema}.fields(record)) WITH ORDINALITY AS f(name, place)
    WHERE jsonb_typeof(r.row) = 'array'
$$;

-- A value as it is shown: in pieces, or too large to be shown, erased, or of bytes that are no value.
CREATE FUNCTION {schema}.shown(value bytea, content bigint, length bigint) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN content IS NOT NULL OR length > 33554432 THEN jsonb_build_object('size_bytes', length)
        WHEN value IS NULL THEN jsonb_build_object('erased', true)
        ELSE coalesce({schema}.unpack(value), jsonb_build_object('unreadable', true)) END
$$;

CREATE FUNCTION {schema}.time_of(time_us bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT timestamptz '1970-01-01 00:00:00+00' + time_us * interval '1 microsecond'
$$;

-- A moment of a record.
CREATE FUNCTION {schema}.time_of(moment text) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN moment ~ '^[0-9]+-[0-9]+-[0-9]+T[0-9]+:[0-9]+:[0-9.]+\+00:00$' THEN moment::timestamptz END
$$;

-- The number of a version as keys hold it.
CREATE FUNCTION {schema}.numbered(version text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT lpad(version, greatest(8, length(version)), '0')
$$;

-- What folding tells of a workflow, of its steps in their order: as `waypost.folding` does.
CREATE FUNCTION {schema}.folded(steps jsonb[], paused boolean) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
    WITH step AS (
        SELECT s.place, s.step ->> 'id' AS id, s.step ->> 'status' AS status, s.step ->> 'error' AS error,
            {schema}.time_of(s.step ->> 'start_time') AS start_time, {schema}.time_of(s.step ->> 'end_time') AS end_time,
            s.step ->> 'status' = 'failed'
                AND (s.step ->> 'retry_count')::numeric >= (s.step ->> 'max_retries')::numeric AS gone
        FROM unnest(steps) WITH ORDINALITY AS s(step, place)
    ), counted AS (
        SELECT count(*) AS total, count(*) FILTER (WHERE status IN ('completed', 'skipped')) AS finished,
            count(*) FILTER (WHERE status = 'pending') AS pending, count(*) FILTER (WHERE status = 'running') AS running,
            coalesce(bool_or(gone), false) AS failed, least(min(start_time), min(end_time)) AS first,
            greatest(max(start_time), max(end_time)) AS last
        FROM step
    ), told AS (
        SELECT c.*, CASE WHEN total > 0 AND finished = total THEN 'completed' WHEN failed THEN 'failed'
            WHEN paused THEN 'paused' WHEN pending < total THEN 'running' ELSE 'idle' END AS status
        FROM counted c
    )
    SELECT jsonb_build_object(
        'status', status,
        'progress', CASE WHEN total > 0 THEN 100::double precision * finished / total ELSE 0 END,
        'current_step', (SELECT s.id FROM step s WHERE s.status = 'running' ORDER BY s.start_time DESC NULLS LAST, s.place LIMIT 1),
        'error', CASE WHEN status = 'failed' THEN (SELECT s.error FROM step s WHERE s.gone ORDER BY s.place LIMIT 1) END,
        'start_time', first,
        'end_time', CASE WHEN status IN ('completed', 'failed') AND running = 0 THEN last END)
    FROM told
$$;

-- --- parts: of the newest version, by what they are of ---

-- Parts whose key is a word and a name; of one that was erased and is not there any more, that it was.
CREATE VIEW {schema}.named_parts AS
    SELECT p.doc, split_part(k.text, chr(31), 1) AS kind, substr(k.text, strpos(k.text, chr(31)) + 1) AS name,
        p.value, p.content, p.length, p.value IS NULL AND p.content IS NULL AS erased
    FROM {schema}.parts p CROSS JOIN LATERAL (SELECT {schema}.readable(p.key) AS text) k
    WHERE p.until = 9223372036854775807 AND k.text ~ ('^(agent|variable|configuration|feature|secret|environment|preference|touched)' || chr(31))
    UNION ALL
    SELECT p.doc, split_part(k.text, chr(31), 2), substr(k.text, strpos(substr(k.text, 8), chr(31)) + 8),
        NULL, NULL, 0, true
    FROM {schema}.parts p CROSS JOIN LATERAL (SELECT {schema}.readable(p.key) AS text) k
    WHERE p.until = 9223372036854775807 AND p.key >= 'erased\037'::bytea AND p.key < 'erased\040'::bytea
        AND k.text ~ ('^erased' || chr(31) || '(agent|variable|configuration|feature|secret|environment|preference)' || chr(31) || '.')
        AND NOT EXISTS (SELECT FROM {schema}.parts n
            WHERE n.doc = p.doc AND n.until = 9223372036854775807 AND n.key = substring(p.key FROM 8));

CREATE VIEW {schema}.step_parts AS
    SELECT w.doc, w.id AS workflow_id, o.position::integer AS position, s.step,
        'output\037'::bytea || convert_to((s.step ->> 'id') || chr(31) || {schema}.numbered(s.step ->> 'output_version'), 'UTF8')
            AS output_key
    FROM {schema}.documents w
    CROSS JOIN LATERAL (
        SELECT row_number() OVER (ORDER BY p.key, e.place) - 1 AS position, e.step_id
        FROM {schema}.parts p
        CROSS JOIN LATERAL (SELECT {schema}.unpack(p.value) AS ids OFFSET 0) i
        CROSS JOIN LATERAL jsonb_array_elements_text(CASE jsonb_typeof(i.ids) WHEN 'array' THEN i.ids ELSE '[]' END)
            WITH ORDINALITY AS e(step_id, place)
        WHERE p.doc = w.doc AND p.until = 9223372036854775807
            AND p.key >= 'order\037'::bytea AND p.key < 'order\040'::bytea
    ) o
    JOIN {schema}.parts p ON p.doc = w.doc AND p.until = 9223372036854775807
        AND p.key = 'step\037'::bytea || convert_to(o.step_id, 'UTF8')
    CROSS JOIN LATERAL (SELECT {schema}.record(p.value, 'step') AS step OFFSET 0) s
    WHERE w.kind = 'workflow' AND s.step IS NOT NULL;

CREATE VIEW {schema}.output_parts AS
    SELECT p.doc, p.key, o.output - ARRAY['value', 'name'] AS output, CASE
        WHEN p.value IS NULL THEN jsonb_build_object('erased', true)
        WHEN o.output IS NULL THEN jsonb_build_object('unreadable', true)
        WHEN o.output ->> 'value' IS NOT NULL THEN {schema}.shown(decode(o.output ->> 'value', 'base64'), NULL, 0)
        ELSE coalesce((
            SELECT {schema}.shown(v.value, v.content, v.length) FROM {schema}.parts v
            WHERE v.doc = p.doc AND v.until = 9223372036854775807 AND v.key = 'value\037'::bytea
                || convert_to((o.output ->> 'step_id') || chr(31)
                    || coalesce(o.output ->> 'name', {schema}.numbered(o.output ->> 'version')), 'UTF8')
        ), jsonb_build_object('unreadable', true)) END AS value
    FROM {schema}.parts p
    CROSS JOIN LATERAL (SELECT {schema}.record(p.value, 'output') AS output OFFSET 0) o
    WHERE p.until = 9223372036854775807 AND p.key >= 'output\037'::bytea AND p.key < 'output\040'::bytea;

-- The steps with what is known of their newest outputs, and the values of those; null where there never was one.
-- Whether one was erased is asked of its own row, and only where it is not there.
CREATE VIEW {schema}.newest_outputs AS
    SELECT s.doc, s.workflow_id, s.position, s.step, CASE WHEN s.step ->> 'output_version' <> '0' THEN coalesce(
        (SELECT coalesce(o.output, jsonb_build_object()) || jsonb_build_object('value', o.value)
            FROM {schema}.output_parts o WHERE o.doc = s.doc AND o.key = s.output_key),
        (SELECT jsonb_build_object('value', jsonb_build_object('erased', true))
            FROM {schema}.parts e WHERE e.doc = s.doc AND e.until = 9223372036854775807 AND e.key IN (
                'erased\037'::bytea || s.output_key,
                'erased\037output\037'::bytea || convert_to((s.step ->> 'id') || chr(31), 'UTF8')) LIMIT 1),
        jsonb_build_object('value', jsonb_build_object('unreadable', true))) END AS output
    FROM {schema}.step_parts s;

-- --- what people ask for ---

CREATE VIEW {schema}.steps AS
    SELECT s.workflow_id, s.position, s.step ->> 'id' AS id, s.step ->> 'name' AS name, s.step ->> 'status' AS status,
        s.step ->> 'agent_id' AS agent_id, {schema}.time_of(s.step ->> 'start_time') AS start_time,
        {schema}.time_of(s.step ->> 'end_time') AS end_time, s.step -> 'dependencies' AS dependencies,
        (s.step ->> 'parallel')::boolean AS parallel, (s.step ->> 'retry_count')::bigint AS retry_count,
        (s.step ->> 'max_retries')::bigint AS max_retries, s.step ->> 'error' AS error,
        (s.step ->> 'interruptions')::bigint AS interruptions, nullif(s.step -> 'owner', 'null') AS owner,
        (s.step ->> 'output_version')::bigint AS output_version,
        s.output -> 'value' AS output
    FROM {schema}.newest_outputs s;
COMMENT ON VIEW {schema}.steps IS 'the steps of all workflows, in the order of each, with their newest outputs';

CREATE VIEW {schema}.workflows AS
    SELECT w.id, w.version, {schema}.time_of(w.time_us) AS updated_at, w.size_bytes,
        (SELECT {schema}.record(r.value, 'workflow') ->> 'name') AS name,
        (SELECT {schema}.time_of(({schema}.record(r.value, 'workflow') ->> 'created_us')::bigint)) AS created_at,
        (SELECT {schema}.time_of({schema}.record(t.value, 'tombstone') ->> 'deleted_at')) AS deleted_at,
        CASE WHEN r.value IS NOT NULL THEN f.folded ->> 'status' END AS status,
        CASE WHEN r.value IS NOT NULL THEN (f.folded ->> 'progress')::double precision END AS progress,
        CASE WHEN r.value IS NOT NULL THEN f.folded ->> 'current_step' END AS current_step,
        CASE WHEN r.value IS NOT NULL THEN f.folded ->> 'error' END AS error,
        CASE WHEN r.value IS NOT NULL THEN (f.folded ->> 'start_time')::timestamptz END AS start_time,
        CASE WHEN r.value IS NOT NULL THEN (f.folded ->> 'end_time')::timestamptz END AS end_time,
        CASE WHEN r.value IS NULL THEN jsonb_build_object('deleted', true) ELSE
            {schema}.record(r.value, 'workflow') - 'created_us' || jsonb_build_object(
            'steps', (SELECT coalesce(jsonb_agg(s.step ORDER BY s.position), '[]') FROM {schema}.step_parts s WHERE s.doc = w.doc),
            'agents', (SELECT coalesce(jsonb_object_agg(p.name, {schema}.shown(p.value, p.content, p.length)), jsonb_build_object())
                FROM {schema}.named_parts p WHERE p.doc = w.doc AND p.kind = 'agent'),
            'outputs', (SELECT coalesce(jsonb_object_agg(o.step ->> 'id', o.output), jsonb_build_object())
                FROM {schema}.newest_outputs o WHERE o.doc = w.doc AND o.output IS NOT NULL),
            'context', coalesce((SELECT {schema}.record(c.value, 'context') FROM {schema}.parts c
                WHERE c.doc = w.doc AND c.until = 9223372036854775807 AND c.key = 'context'::bytea), jsonb_build_object())
            || (SELECT jsonb_build_object(
                'configuration', coalesce(jsonb_object_agg(p.name, {schema}.shown(p.value, p.content, p.length))
                    FILTER (WHERE p.kind = 'configuration'), jsonb_build_object()),
                'variables', coalesce(jsonb_object_agg(p.name, {schema}.shown(p.value, p.content, p.length))
                    FILTER (WHERE p.kind = 'variable'), jsonb_build_object()),
                'features', coalesce(jsonb_object_agg(p.name, {schema}.shown(p.value, p.content, p.length))
                    FILTER (WHERE p.kind = 'feature'), jsonb_build_object()),
                'secrets', coalesce(jsonb_object_agg(p.name, CASE WHEN p.erased THEN jsonb_build_object('erased', true)
                    ELSE jsonb_build_object('sealed', true) END) FILTER (WHERE p.kind = 'secret'), jsonb_build_object()))
                FROM {schema}.named_parts p WHERE p.doc = w.doc)) END AS state
    FROM {schema}.documents w
    LEFT JOIN {schema}.parts r ON r.doc = w.doc AND r.until = 9223372036854775807 AND r.key = 'workflow'::bytea
    LEFT JOIN {schema}.parts t ON t.doc = w.doc AND t.until = 9223372036854775807 AND t.key = 'tombstone'::bytea
    LEFT JOIN LATERAL (
        SELECT {schema}.folded(
            (SELECT array_agg(s.step ORDER BY s.position) FROM {schema}.step_parts s WHERE s.doc = w.doc),
            ({schema}.record(r.value, 'workflow') ->> 'paused')::boolean) AS folded
        OFFSET 0
    ) f ON true
    WHERE w.kind = 'workflow' AND (r.doc IS NOT NULL OR t.doc IS NOT NULL);
COMMENT ON VIEW {schema}.workflows IS 'each workflow as it is now; of a deleted one that it was';

CREATE VIEW {schema}.sessions AS
    SELECT w.id, w.version, {schema}.time_of(w.time_us) AS updated_at, w.size_bytes,
        s.session ->> 'user_id' AS user_id, s.session ->> 'status' AS recorded_status,
        {schema}.time_of((s.session ->> 'started_us')::bigint) AS start_time,
        {schema}.time_of((s.session ->> 'ended_us')::bigint) AS end_time,
        s.session - ARRAY['started_us', 'ended_us'] || jsonb_build_object(
            'recovery', (SELECT {schema}.record(r.value, 'recovery') FROM {schema}.parts r
                WHERE r.doc = w.doc AND r.until = 9223372036854775807 AND r.key = 'recovery'::bytea))
        || (SELECT jsonb_build_object(
            'environment', coalesce(jsonb_object_agg(p.name, {schema}.shown(p.value, p.content, p.length))
                FILTER (WHERE p.kind = 'environment'), jsonb_build_object()),
            'preferences', coalesce(jsonb_object_agg(p.name, {schema}.shown(p.value, p.content, p.length))
                FILTER (WHERE p.kind = 'preference'), jsonb_build_object()),
            'touched', coalesce(jsonb_agg(p.name ORDER BY p.name) FILTER (WHERE p.kind = 'touched'), '[]'))
            FROM {schema}.named_parts p WHERE p.doc = w.doc) AS state
    FROM {schema}.documents w
    JOIN {schema}.parts p ON p.doc = w.doc AND p.until = 9223372036854775807 AND p.key = 'session'::bytea
    CROSS JOIN LATERAL (SELECT {schema}.record(p.value, 'session') AS session OFFSET 0) s
    WHERE w.kind = 'session';
COMMENT ON VIEW {schema}.sessions IS 'each session as it was recorded: whether its owner is there is not told by rows';

-- Whoever asks sees what he may see in the tables. Servers before 15 know only the rights of the owner.
DO $$
DECLARE each_ text;
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        FOREACH each_ IN ARRAY ARRAY['named_parts', 'step_parts', 'output_parts', 'newest_outputs', 'steps', 'workflows', 'sessions'] LOOP
            EXECUTE 'ALTER VIEW {schema}.' || each_ || ' SET (security_invoker = true)';
        END LOOP;
    END IF;
END $$;
