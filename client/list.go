package client

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"strconv"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// ListQuery selects records.
type ListQuery struct {
	Project string // name or id, "" for the token's own
	Key     string // "" for all
	From    uint64 // leaf index
	// Since ≤ time < Until, unix milliseconds; 0 for no bound.
	Since, Until uint64
	// Limit is the most records of a page, up to [wire.MaxPage]; 0 leaves that to the master.
	Limit int
}

// values are the query as the API takes it.
func (q *ListQuery) values() url.Values {
	v := pageValues("", q.Limit)
	for name, text := range map[string]string{"project": q.Project, "key": q.Key} {
		if text != "" {
			v.Set(name, text)
		}
	}
	for name, number := range map[string]uint64{"from": q.From, "since": q.Since, "until": q.Until} {
		if number != 0 {
			v.Set(name, strconv.FormatUint(number, 10))
		}
	}
	return v
}

// pageValues are the parameters of a page, without those that have no value.
func pageValues(cursor string, limit int) url.Values {
	v := url.Values{}
	if cursor != "" {
		v.Set("cursor", cursor)
	}
	if limit > 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	return v
}

// check compares a record of an answer with its own hashes and with the query; next is the first leaf index that may
// come. The error wraps [ErrMismatch].
func (q *ListQuery) check(r *wire.Record, next uint64) error {
	if err := checkRecord(r); err != nil {
		return fmt.Errorf("index %d: %w", r.Index, err)
	}
	if r.Index < next || q.Key != "" && r.Key != q.Key || r.Time < q.Since || q.Until > 0 && r.Time >= q.Until {
		return fmt.Errorf("%w: index %d with key %q and time %d is not what was asked for", ErrMismatch, r.Index, r.Key,
			r.Time)
	}
	return nil
}

// List returns records in the order of the chain: with a key, that key's history. It ends at the last record, or with
// an error, after which nothing follows. Each record was checked as by [Client.Get]. The client cannot
// check that none is missing: a proof shows that a record exists, not that a list is complete. The error wraps
// [wire.ErrForbidden], or [wire.ErrNotFound] for an unknown project.
func (c *Client) List(ctx context.Context, q ListQuery) iter.Seq2[wire.Record, error] {
	return func(yield func(wire.Record, error) bool) {
		cursor := ""
		for {
			page, err := c.ListPage(ctx, q, cursor)
			if err != nil {
				yield(wire.Record{}, err)
				return
			}
			for i := range page.Records {
				if !yield(page.Records[i], nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			if n := len(page.Records); n > 0 {
				q.From = page.Records[n-1].Index + 1 // no page may go back
			}
			cursor = page.Next
		}
	}
}

// ListPage reads one page of a list: cursor "" for the first, then [wire.Records].Next of the page before.
func (c *Client) ListPage(ctx context.Context, q ListQuery, cursor string) (wire.Records, error) {
	v := q.values()
	if cursor != "" {
		v.Del("from")
		v.Set("cursor", cursor)
	}
	return read(ctx, c, "/v1/records?"+v.Encode(), exchange.MaxRecords, func(page *wire.Records) error {
		next := q.From
		for i := range page.Records {
			if err := q.check(&page.Records[i], next); err != nil {
				return err
			}
			next = page.Records[i].Index + 1
		}
		if page.Next != "" && page.Next == cursor {
			return fmt.Errorf("%w: the page after cursor %q has the same cursor", ErrAnswer, cursor)
		}
		return checkPage(page.Records, "records", q.Limit)
	})
}

// BlockRecords reads a page of a block's records by their offsets: up to limit of them, 0 for the master's default. A
// record that the token may not read has Hidden set, and only its place. The error wraps [wire.ErrNotFound] if there is
// no such block.
func (c *Client) BlockRecords(ctx context.Context, block uint64, from uint32, limit int) (wire.BlockRecords, error) {
	v := pageValues("", limit)
	v.Set("from", strconv.FormatUint(uint64(from), 10))
	path := fmt.Sprintf("/v1/blocks/%d/records?%s", block, v.Encode())
	return read(ctx, c, path, exchange.MaxRecords, func(page *wire.BlockRecords) error {
		for i := range page.Records {
			r := &page.Records[i]
			if r.Block != block || uint64(r.Offset) != uint64(from)+uint64(i) {
				return fmt.Errorf("%w: asked for record %d of block %d, got record %d of block %d", ErrMismatch,
					uint64(from)+uint64(i), block, r.Offset, r.Block)
			}
			if r.Hidden != (r.Record == nil) {
				return fmt.Errorf("%w: record %d of block %d is neither hidden nor present", ErrAnswer, r.Offset, block)
			}
			if r.Hidden {
				continue
			}
			r.Record.Block, r.Record.Offset, r.Record.Index = r.Block, r.Offset, r.Index
			if err := checkRecord(r.Record); err != nil {
				return fmt.Errorf("block %d, offset %d: %w", r.Block, r.Offset, err)
			}
		}
		return checkPage(page.Records, "records", limit)
	})
}

// Find finds the block that has a hash, or the record that has it as its leaf hash. The error wraps [wire.ErrNotFound]
// if there is none.
func (c *Client) Find(ctx context.Context, hash chain.Hash) (wire.FoundHash, error) {
	return read(ctx, c, "/v1/hashes/"+hash.String(), exchange.MaxSmall, func(found *wire.FoundHash) error {
		if found.Kind == wire.KindRecord && (found.Offset == nil || found.Index == nil) {
			return fmt.Errorf("%w: a record without its place", ErrAnswer)
		}
		return needs(found.Kind != "", "kind")
	})
}

// AuditEntry is a record of the audit trail at its place in the chain.
type AuditEntry struct {
	Index  uint64 `json:"index"` // leaf index
	Block  uint64 `json:"block"`
	Offset uint32 `json:"offset"`
	Time   uint64 `json:"time"` // unix milliseconds
	// Unreadable says why the record cannot be decoded, as when a newer ChainStore wrote it. It is "" for others. The
	// fields of the act are zero then.
	Unreadable string `json:"unreadable,omitempty"`
	trail.Record
}

// NewAuditEntry decodes a record of the project _audit. The error wraps [trail.ErrMalformed].
func NewAuditEntry(r *wire.Record) (AuditEntry, error) {
	rec, err := trail.Parse(r.Payload)
	if err != nil {
		return AuditEntry{}, fmt.Errorf("index %d: %w", r.Index, err)
	}
	return AuditEntry{Index: r.Index, Block: r.Block, Offset: r.Offset, Time: r.Time, Record: rec}, nil
}

// Audit lists the audit trail, as [Client.List] lists records; a key is a target, such as project/7. The project of the
// query is ignored. The client needs an admin token.
func (c *Client) Audit(ctx context.Context, q ListQuery) iter.Seq2[AuditEntry, error] {
	q.Project = trail.Project
	return auditEntries(c.List(ctx, q))
}

// FollowAudit is [Client.Audit] for a list without an end: see [Client.Stream].
func (c *Client) FollowAudit(ctx context.Context, q StreamQuery) iter.Seq2[AuditEntry, error] {
	q.Project = trail.Project
	return auditEntries(c.Stream(ctx, q))
}

// auditEntries decodes records. One that cannot be decoded does not end the list: others follow that can.
func auditEntries(records iter.Seq2[wire.Record, error]) iter.Seq2[AuditEntry, error] {
	return func(yield func(AuditEntry, error) bool) {
		for r, err := range records {
			var e AuditEntry
			if err == nil {
				var unreadable error
				if e, unreadable = NewAuditEntry(&r); unreadable != nil {
					e = AuditEntry{Index: r.Index, Block: r.Block, Offset: r.Offset, Time: r.Time}
					e.Unreadable = unreadable.Error()
				}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}
