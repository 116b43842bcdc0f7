package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Entry is a record to append.
type Entry struct {
	// Payload is the record's content, at least one byte. The default limit of a cluster is 1 MiB.
	Payload []byte
	// Key is for the user's own use, UTF-8 without control characters (bytes below 0x20, and 0x7f), at most 255
	// bytes; "" for none.
	Key string
	// Type is the media type, UTF-8 without control characters, at most 255 bytes. With "" the master gives the
	// record its default type.
	Type string
	// IdempotencyKey makes a repeated append with the same content return the first one's position, within the project
	// and for as long as the cluster remembers keys: ten minutes and a million keys by default; the status shows the
	// current time. With "" the client generates one, which covers its own retries. Entries of a batch have none.
	IdempotencyKey string
}

// expectFrom is the payload size from which the client sends "Expect: 100-continue", so that a master can refuse the
// size before it receives the body.
const expectFrom = 1 << 20

// check refuses an entry that no master accepts. The error wraps [wire.ErrEmptyBody], [chain.ErrRecord] or, for a
// control character, [wire.ErrBadRequest].
func (e *Entry) check() error {
	if len(e.Payload) == 0 {
		return wire.ErrEmptyBody
	}
	r := chain.Record{Key: e.Key, Type: e.Type, Payload: e.Payload}
	if err := r.Check(); err != nil {
		return err
	}
	if err := wire.CheckRecordText(e.Key, e.Type); err != nil {
		return fmt.Errorf("%w: %w", wire.ErrBadRequest, err)
	}
	return nil
}

// Append appends a record and returns its final position, after a majority of the masters has it on disk. It appends
// once, however often it tries. The payload is not kept.
//
// An error wraps [chain.ErrRecord], [wire.ErrEmptyBody] or [wire.ErrBadRequest] for an entry that no cluster accepts.
// If it is unknown whether the record was appended, it is an [*UnknownOutcomeError].
func (c *Client) Append(ctx context.Context, e Entry) (wire.Position, error) {
	if err := e.check(); err != nil {
		return wire.Position{}, err
	}
	if !wire.FitsHeader(e.Key) || !wire.FitsHeader(e.Type) { // a batch of one has them in its body
		at, err := c.AppendBatch(ctx, []Entry{{Payload: e.Payload, Key: e.Key, Type: e.Type}}, e.IdempotencyKey)
		if err != nil {
			return wire.Position{}, err
		}
		return at[0], nil
	}
	q := c.appendQuery(&e, "/v1/records", 0)
	return askAppend(ctx, c, q, e.IdempotencyKey, checkPosition)
}

// AppendWait is Append that also waits, for at most timeout, until the record's block is on as many storage nodes as
// the cluster's replicas setting requires and a signed checkpoint covers it. The position's state is then
// [wire.StateStored]; after a timeout it may be [wire.StateCommitted], which is not an error. The receipt was checked
// as in [Client.Receipt], and belongs to this entry. It is nil if no checkpoint covered the record in time, or the
// cluster has no key to sign one.
//
// An error that wraps [ErrReceipt] comes with the position: the record is appended, and its receipt is not valid. Do
// not append again. Request the receipt with [Client.ReceiptAt], from another master if that fails too.
func (c *Client) AppendWait(ctx context.Context, e Entry, timeout time.Duration) (wire.Appended, error) {
	if err := e.check(); err != nil {
		return wire.Appended{}, err
	}
	if !wire.FitsHeader(e.Key) || !wire.FitsHeader(e.Type) {
		return wire.Appended{},
			fmt.Errorf("%w: a key or type with spaces at its ends goes with Append or AppendBatch only",
				wire.ErrBadRequest)
	}
	query := url.Values{"wait": {wire.StateStored}, "timeout": {timeout.String()}}
	q := c.appendQuery(&e, "/v1/records?"+query.Encode(), timeout)
	type appended struct {
		wire.Position
		Receipt json.RawMessage `json:"receipt"`
	}
	got, err := askAppend(ctx, c, q, e.IdempotencyKey, func(a *appended) error { return checkPosition(&a.Position) })
	done := wire.Appended{Position: got.Position}
	if err == nil && got.Receipt != nil {
		if done.Receipt, err = ownReceipt(got.Receipt, &done.Position, &e); err != nil {
			err = fmt.Errorf("%w: %s: %w", ErrReceipt, q.answered, err)
		}
	}
	return done, err
}

// appendQuery returns the request to append one record that was checked.
func (c *Client) appendQuery(e *Entry, path string, patience time.Duration) *query {
	q := c.newQuery(http.MethodPost, path, exchange.MaxSmall)
	q.body, q.patience = e.Payload, patience
	if e.Key != "" {
		q.header[wire.HeaderKey] = []string{e.Key}
	}
	if e.Type != "" {
		q.header["Content-Type"] = []string{e.Type}
	}
	if len(e.Payload) > expectFrom {
		q.header["Expect"] = []string{"100-continue"}
	}
	return q
}

// askAppend sends an append with its idempotency key, or a random one if the key is "".
func askAppend[T any](ctx context.Context, c *Client, q *query, key string, check func(*T) error) (T, error) {
	if key == "" {
		key = rand.Text()
	}
	q.header[wire.HeaderIdempotencyKey] = []string{key}
	answer, err := ask(ctx, c, q, check)
	if err != nil && q.maybeDone {
		err = &UnknownOutcomeError{IdempotencyKey: key, Err: err}
	}
	return answer, err
}

// AppendBatch appends records in their order, all or none; they may span blocks. It takes up to [wire.MaxBatchRecords]
// records whose frames ([wire.AppendFrame]) have up to [wire.MaxBatchBytes] together. Otherwise the error wraps
// [wire.ErrTooLarge]. idempotencyKey covers the whole batch; with "" the client generates one. The positions are in the
// order of the entries. Errors are those of [Client.Append].
func (c *Client) AppendBatch(ctx context.Context, entries []Entry, idempotencyKey string) ([]wire.Position, error) {
	if len(entries) == 0 {
		return nil, fmt.Errorf("%w: a batch without a record", wire.ErrBadRequest)
	}
	size := 0
	for i := range entries {
		e := &entries[i]
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("entry %d of the batch: %w", i, err)
		}
		if e.IdempotencyKey != "" {
			return nil, fmt.Errorf("%w: entry %d of the batch has an idempotency key of its own: give one for the "+
				"whole batch", wire.ErrBadRequest, i)
		}
		size += e.frameSize()
	}
	if len(entries) > wire.MaxBatchRecords || size > wire.MaxBatchBytes {
		return nil, fmt.Errorf("%w: a batch of %d records and %d bytes, the limits are %d and %d: split it",
			wire.ErrTooLarge, len(entries), size, wire.MaxBatchRecords, wire.MaxBatchBytes)
	}
	body := make([]byte, 0, size)
	for i := range entries {
		e := &entries[i]
		body = wire.AppendFrame(body, e.Key, e.Type, e.Payload)
	}
	return c.appendFrames(ctx, body, len(entries), idempotencyKey)
}

func (e *Entry) frameSize() int {
	return wire.FrameOverhead + len(e.Key) + len(e.Type) + len(e.Payload)
}

// appendFrames sends an encoded batch of count records.
func (c *Client) appendFrames(ctx context.Context, body []byte, count int,
	idempotencyKey string) ([]wire.Position, error) {
	q := c.newQuery(http.MethodPost, "/v1/records:batch", exchange.MaxMedium)
	q.body = body
	q.header["Content-Type"] = typeFrames
	positions, err := askAppend(ctx, c, q, idempotencyKey, func(p *wire.Positions) error {
		if len(p.Records) != count {
			return fmt.Errorf("%w: %d positions for %d records", ErrAnswer, len(p.Records), count)
		}
		for i := range p.Records {
			if err := checkPosition(&p.Records[i]); err != nil {
				return err
			}
			if i > 0 && p.Records[i].Index <= p.Records[i-1].Index {
				return fmt.Errorf("%w: the positions of a batch are not in order", ErrAnswer)
			}
		}
		return nil
	})
	return positions.Records, err
}

var typeFrames = []string{wire.TypeFrames} // no transport writes to it
