"""The functions of the schema, which do in one statement what must not be torn apart by a gateway that stops.

`append_entries` takes a lock until its commit: entries get their numbers in the order of commits, so that nobody who
follows them by number can miss one. It is called outside of a transaction, so that no gateway can stop while it has the
lock.
"""

from typing import Final

from gateway.storage.postgres.names import APPEND_LOCK, CHANNEL, LEASE_LOST

__all__ = ["FUNCTIONS"]

_CLOCK: Final = """
CREATE OR REPLACE FUNCTION {s}.now_seconds() RETURNS DOUBLE PRECISION LANGUAGE sql VOLATILE AS
    $$ SELECT extract(epoch FROM clock_timestamp())::DOUBLE PRECISION $$;
"""

# A turn may claim its fingerprint again: an append whose answer was lost is repeated.
_APPEND: Final = """
CREATE OR REPLACE FUNCTION {s}.append_entries(
    new_ids TEXT[], records TEXT[], buckets INTEGER[], scopes TEXT[], payloads BYTEA[], tombstones BOOLEAN[],
    embedders TEXT[], vectors BYTEA[], replaced TEXT[],
    fingerprints BYTEA[], claimants TEXT[], turns TEXT[], claim_scopes TEXT[], times DOUBLE PRECISION[],
    lengths DOUBLE PRECISION[]
) RETURNS TABLE (entry_id TEXT, entry_seq BIGINT) LANGUAGE plpgsql SET lock_timeout='4s' AS $$
DECLARE
    refused TEXT[] := '{}';
    newest BIGINT := 0;
    now_at DOUBLE PRECISION := {s}.now_seconds();
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM pg_advisory_xact_lock({append_lock});
    FOR number IN 1 .. coalesce(array_length(fingerprints, 1), 0) LOOP
        INSERT INTO {s}.claims AS claims
        VALUES (fingerprints[number], turns[number], claim_scopes[number], times[number], now_at + lengths[number])
        ON CONFLICT (fingerprint) DO UPDATE SET turn=excluded.turn, at=excluded.at, until=excluded.until
            WHERE claims.turn=excluded.turn OR abs(claims.at - excluded.at)>=lengths[number];
        IF NOT FOUND THEN
            refused := refused || claimants[number];
        END IF;
    END LOOP;
    IF array_length(replaced, 1) > 0 THEN
        UPDATE {s}.entries e SET payload=NULL, vector=NULL FROM unnest(replaced) AS old (id)
        WHERE e.state=1 AND e.payload IS NOT NULL AND (e.id=old.id OR (e.id>old.id || '.' AND e.id<old.id || '/'));
    END IF;
    FOR entry_id, entry_seq IN
        INSERT INTO {s}.entries AS e (id, bucket, scope, at, is_tombstone, payload, embedder, vector)
        SELECT n.id, n.bucket, n.scope, now_at, n.is_tombstone, n.payload, n.embedder, n.vector
        FROM unnest(new_ids, records, buckets, scopes, payloads, tombstones, embedders, vectors) WITH ORDINALITY
            AS n (id, record, bucket, scope, payload, is_tombstone, embedder, vector, place)
        WHERE n.record <> ALL (refused) ORDER BY n.place
        ON CONFLICT (id) DO NOTHING RETURNING e.id, e.seq
    LOOP
        newest := greatest(newest, entry_seq);
        RETURN NEXT;
    END LOOP;
    IF newest > 0 THEN
        PERFORM pg_notify('{channel}', newest::TEXT);
    END IF;
    entry_id := '';
    SELECT coalesce(max(e.seq), 0) INTO entry_seq FROM {s}.entries e;
    RETURN NEXT;
END $$;
"""

# A key-share lock on the leases keeps their epochs as they are until the commit, and lets their owner renew them.
_CHECK: Final = """
CREATE OR REPLACE FUNCTION {s}.check_leases(buckets INTEGER[], epochs BIGINT[]) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    current BIGINT;
BEGIN
    SELECT count(*) INTO current FROM (
        SELECT 1 FROM {s}.leases l JOIN unnest(buckets, epochs) AS h (bucket, epoch)
            ON l.bucket=h.bucket AND l.epoch=h.epoch
        ORDER BY l.bucket FOR KEY SHARE OF l
    ) AS owned;
    IF current <> coalesce(array_length(buckets, 1), 0) THEN
        RAISE EXCEPTION 'lease lost' USING ERRCODE='{lease_lost}';
    END IF;
END $$;
"""

_CHECK_ENTRIES: Final = """
CREATE OR REPLACE FUNCTION {s}.check_entries(buckets INTEGER[], epochs BIGINT[], seqs BIGINT[])
RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {s}.check_leases(buckets, epochs);
    IF EXISTS (SELECT 1 FROM {s}.entries e WHERE e.seq = ANY (seqs) AND e.bucket <> ALL (buckets)) THEN
        RAISE EXCEPTION 'lease lost' USING ERRCODE='{lease_lost}';
    END IF;
END $$;
"""

# `outdated`, `newest`: records whose earlier texts are superseded by what is marked, with the number of that entry
_MARK_STORED: Final = """
CREATE OR REPLACE FUNCTION {s}.mark_stored(
    buckets INTEGER[], epochs BIGINT[], seqs BIGINT[], outdated TEXT[], newest BIGINT[]
) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {s}.check_entries(buckets, epochs, seqs);
    UPDATE {s}.entries SET state=1 WHERE seq = ANY (seqs);
    UPDATE {s}.entries e SET payload=NULL, vector=NULL FROM unnest(outdated, newest) AS o (id, seq)
    WHERE e.state=1 AND e.payload IS NOT NULL AND e.seq<o.seq
        AND (e.id=o.id OR (e.id>o.id || '.' AND e.id<o.id || '/'));
END $$;
"""

_MARK_FAILED: Final = """
CREATE OR REPLACE FUNCTION {s}.mark_failed(
    buckets INTEGER[], epochs BIGINT[], seqs BIGINT[], pause DOUBLE PRECISION, most INTEGER
) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    aside BIGINT;
BEGIN
    PERFORM {s}.check_entries(buckets, epochs, seqs);
    UPDATE {s}.entries SET due={s}.now_seconds() + pause * power(2, tries), tries=tries + 1,
        state=CASE WHEN tries + 1 >= most THEN 2 ELSE 0 END
    WHERE seq = ANY (seqs) AND state=0;
    SELECT count(*) INTO aside FROM {s}.entries WHERE seq = ANY (seqs) AND state=2;
    RETURN aside;
END $$;
"""

_ALL = _CLOCK + _APPEND + _CHECK + _CHECK_ENTRIES + _MARK_STORED + _MARK_FAILED
FUNCTIONS: Final = (
    _ALL.replace("{append_lock}", str(APPEND_LOCK)).replace("{channel}", CHANNEL).replace("{lease_lost}", LEASE_LOST)
)
"""The statements that create them; `{s}` is for the name of the schema."""
