package noderpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Workers are the calls from a master to storage nodes and miners. Each goes to one node, once, and lasts as long as
// its context. It may be used by many goroutines at once. Every call may be repeated safely. So when a kept connection
// turns out to be closed, the transport repeats the call on another connection, unless it had sent part of a large
// body.
type Workers struct {
	transport *Transport
}

// NewWorkers returns the calls of a master to its workers.
func NewWorkers(t *Transport) *Workers { return &Workers{transport: t} }

// CloseIdle closes the idle connections of the transport.
func (c *Workers) CloseIdle() { c.transport.CloseIdle() }

// StorageStatus asks a storage node for its status.
func (c *Workers) StorageStatus(ctx context.Context, w wire.Worker, o wire.Order) (wire.StorageStatus, error) {
	return workerGet[wire.StorageStatus](ctx, c, w, orderHeader(w, o), wire.PathWorkerStatus)
}

// MinerStatus asks a miner for its status.
func (c *Workers) MinerStatus(ctx context.Context, w wire.Worker, o wire.Order) (wire.MinerStatus, error) {
	return workerGet[wire.MinerStatus](ctx, c, w, orderHeader(w, o), wire.PathWorkerStatus)
}

// PutBlock stores an encoded block on a storage node and returns what the node has on disk afterwards. A block that the
// node already has is not an error. The error is a [*wire.NotNextError] with the node's status if the block does not
// follow the node's last one. It wraps [wire.ErrBadBlock] for a block that fails the verifier, and [wire.ErrFenced] and
// a [*wire.FencedError] for the order of a deposed leader.
func (c *Workers) PutBlock(
	ctx context.Context, w wire.Worker, o wire.Order, number uint64, block []byte,
) (wire.StorageStatus, error) {
	return c.put(ctx, w, o, wire.PathBlocks, number, block)
}

// PutInbox stores an encoded block that is not next in a storage node's chain in its inbox, and returns the node's
// status afterwards. The error wraps [wire.ErrInboxFull] if the inbox has no room, and is otherwise as of
// [Workers.PutBlock].
func (c *Workers) PutInbox(
	ctx context.Context, w wire.Worker, o wire.Order, number uint64, block []byte,
) (wire.StorageStatus, error) {
	return c.put(ctx, w, o, wire.PathInbox, number, block)
}

func (c *Workers) put(
	ctx context.Context, w wire.Worker, o wire.Order, path string, number uint64, block []byte,
) (wire.StorageStatus, error) {
	header := orderHeader(w, o)
	header["Content-Type"] = exchange.TypeOctets
	a, err := call(ctx, c.transport.RoundTrip, &exchange.Request{
		Method: http.MethodPut, Base: w.URL, Path: path + strconv.FormatUint(number, 10),
		Header: header, Body: block, Limit: exchange.MaxSmall,
	})
	var status wire.StorageStatus
	var has wire.NotNext
	switch {
	case err == nil:
		err = a.Decode(&status)
	case errors.Is(err, wire.ErrNotNext):
		if broken := a.Decode(&has); broken != nil {
			return wire.StorageStatus{}, broken
		}
		err = &wire.NotNextError{Err: err, Status: has.StorageStatus}
	}
	return status, err
}

// ReadRecords reads records with their proofs from a storage node, one for each place in order, and up to
// [wire.MaxPlaces]. It does not verify the proofs: the caller knows the headers. The records share one buffer for each
// answer of up to [wire.MaxReadBytes]: copy those that are kept for long.
func (c *Workers) ReadRecords(ctx context.Context, w wire.Worker, places []wire.Place) ([]wire.ProvenRecord, error) {
	records := make([]wire.ProvenRecord, 0, len(places))
	// A node ends an answer that has become long. The rest is requested again.
	for len(records) < len(places) {
		left := places[len(records):]
		request := wire.AppendPlaces(make([]byte, 0, 12*len(left)), left)
		a, err := c.octets(ctx, w, http.MethodPost, wire.PathReadRecords, request, exchange.MaxRecords)
		if err != nil {
			return nil, err
		}
		before := len(records)
		for data := a.Body; len(data) > 0; {
			if len(records) == len(places) {
				return nil, fmt.Errorf("%s: %w: %d bytes after the last of %d records",
					w.URL, exchange.ErrAnswer, len(data), len(left))
			}
			var p wire.ProvenRecord
			if p, data, err = wire.ParseProvenRecord(data); err != nil {
				return nil, fmt.Errorf("%s: %w: %w", w.URL, exchange.ErrAnswer, err)
			}
			records = append(records, p)
		}
		if len(records) == before {
			return nil, fmt.Errorf("%s: %w: nothing for %d places", w.URL, exchange.ErrAnswer, len(left))
		}
	}
	return records, nil
}

// Headers reads up to limit headers from block from on, each with the inclusion path of its seal in the tree of that
// size. There are fewer if the node or the tree has no more. It checks that the block numbers are consecutive, but does
// not verify the proofs.
func (c *Workers) Headers(
	ctx context.Context, w wire.Worker, from uint64, limit int, size uint64,
) ([]wire.ProvenHeader, error) {
	path := wire.PathHeaders + "?from=" + strconv.FormatUint(from, 10) + "&limit=" + strconv.Itoa(limit) +
		"&size=" + strconv.FormatUint(size, 10)
	a, err := c.octets(ctx, w, http.MethodGet, path, nil, exchange.MaxMedium)
	if err != nil {
		return nil, err
	}
	headers, err := wire.ParseProvenHeaders(a.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", w.URL, exchange.ErrAnswer, err)
	}
	if len(headers) > limit {
		return nil, fmt.Errorf("%s: %w: %d headers instead of %d", w.URL, exchange.ErrAnswer, len(headers), limit)
	}
	for i := range headers {
		if got, due := headers[i].Header.Block, from+uint64(i); got != due {
			return nil, fmt.Errorf("%s: %w: the header of block %d instead of block %d",
				w.URL, exchange.ErrAnswer, got, due)
		}
	}
	return headers, nil
}

// Locate asks a storage node which block has a leaf. The answer is a hint. The proof of the record proves it.
func (c *Workers) Locate(ctx context.Context, w wire.Worker, index uint64) (uint64, error) {
	path := wire.PathLocate + strconv.FormatUint(index, 10)
	located, err := workerGet[wire.Located](ctx, c, w, workerHeader(w), path)
	return located.Block, err
}

// ReadTiles reads up to [wire.MaxTiles] tiles of the tree's hashes from a storage node. It proves nothing.
func (c *Workers) ReadTiles(ctx context.Context, w wire.Worker, tiles []tlog.Tile) (wire.TileData, error) {
	a, err := c.octets(ctx, w, http.MethodPost, wire.PathReadTiles, wire.AppendTiles(nil, tiles), exchange.MaxSmall)
	if err != nil {
		return wire.TileData{}, err
	}
	d, err := wire.ParseTileData(a.Body, tiles)
	if err != nil {
		return d, fmt.Errorf("%s: %w: %w", w.URL, exchange.ErrAnswer, err)
	}
	return d, nil
}

// Entries reads the data of count leaves from leaf first on, up to [wire.TileWidth], from a storage node. It proves
// nothing.
func (c *Workers) Entries(ctx context.Context, w wire.Worker, first uint64, count int) (wire.Entries, error) {
	path := wire.PathEntries + "?first=" + strconv.FormatUint(first, 10) + "&count=" + strconv.Itoa(count)
	a, err := c.octets(ctx, w, http.MethodGet, path, nil, exchange.MaxSmall)
	if err != nil {
		return wire.Entries{}, err
	}
	e, err := wire.ParseEntries(a.Body)
	if err != nil {
		return e, fmt.Errorf("%s: %w: %w", w.URL, exchange.ErrAnswer, err)
	}
	return e, nil
}

// FindRecords asks a storage node's index for the places of records, in order. They are hints. The proofs of the
// records prove them. If the index does not reach the start of the query, the answer's End is that start.
func (c *Workers) FindRecords(ctx context.Context, w wire.Worker, q wire.RecordQuery) (wire.RecordHits, error) {
	return workerPost[wire.RecordHits](ctx, c, w, workerHeader(w), wire.PathFindRecords, q, exchange.MaxSmall)
}

// FindHash asks a storage node's index for the leaves that may have a hash.
func (c *Workers) FindHash(ctx context.Context, w wire.Worker, h chain.Hash) (wire.RecordHits, error) {
	return workerGet[wire.RecordHits](ctx, c, w, workerHeader(w), wire.PathFindHash+h.String())
}

// Mine makes a miner search for a nonce and waits for it. The end of the context stops the miner. The nonce is not
// checked.
func (c *Workers) Mine(ctx context.Context, w wire.Worker, o wire.Order, order wire.MineOrder) (uint64, error) {
	found, err := workerPost[wire.Found](ctx, c, w, orderHeader(w, o), wire.PathMine, order, exchange.MaxMedium)
	return found.Nonce, err
}

// Check makes a storage node check its chain, or returns the status of that check.
func (c *Workers) Check(
	ctx context.Context, w wire.Worker, o wire.Order, order wire.CheckOrder,
) (wire.CheckStatus, error) {
	return workerPost[wire.CheckStatus](ctx, c, w, orderHeader(w, o), wire.PathCheck, order, exchange.MaxMedium)
}

// Receive opens a storage node for a repair, or returns the status of that repair.
func (c *Workers) Receive(
	ctx context.Context, w wire.Worker, o wire.Order, order wire.ReceiveOrder,
) (wire.ReceiveStatus, error) {
	return workerPost[wire.ReceiveStatus](ctx, c, w, orderHeader(w, o), wire.PathReceive, order, exchange.MaxMedium)
}

// Send makes a storage node send blocks to another one, or returns the status of that.
func (c *Workers) Send(
	ctx context.Context, w wire.Worker, o wire.Order, order wire.SendOrder,
) (wire.SendStatus, error) {
	return workerPost[wire.SendStatus](ctx, c, w, orderHeader(w, o), wire.PathSend, order, exchange.MaxMedium)
}

// Transfer streams the bytes of write from one storage node to another, whose repair has that ticket, and waits for the
// receiver's answer. The error wraps [wire.ErrBadBlock] if the receiver refused a block, and [wire.ErrUnauthorized] if
// the ticket is not valid.
func (c *Workers) Transfer(ctx context.Context, to, ticket string, write func(io.Writer) error) error {
	body, stream := io.Pipe()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to+wire.PathTransfer, body)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", wire.ErrNoAnswer, to, err)
	}
	request.Header = http.Header{"Authorization": exchange.Bearer(ticket), "Content-Type": exchange.TypeOctets}
	written := make(chan error, 1)
	go func() {
		err := write(stream)
		_ = stream.CloseWithError(err) // never fails; nil ends the stream normally
		written <- err
	}()
	response, err := c.transport.RoundTrip(request)
	// The receiver may have answered before the end of the stream. The writer must not wait for a reader then.
	_ = body.CloseWithError(io.ErrClosedPipe)
	writeErr := <-written
	if err != nil {
		if writeErr != nil && !errors.Is(writeErr, io.ErrClosedPipe) {
			return writeErr
		}
		return exchange.NoAnswer(to, err)
	}
	answer, err := exchange.Read(to, response, exchange.MaxSmall)
	if err != nil {
		return err
	}
	if err := answer.Problem(); err != nil {
		return err
	}
	return writeErr
}

// octets makes a call whose answer is binary, and its body too where there is one.
func (c *Workers) octets(
	ctx context.Context, w wire.Worker, method, path string, body []byte, limit int,
) (*exchange.Answer, error) {
	header := workerHeader(w)
	if body != nil {
		header["Content-Type"] = exchange.TypeOctets
	}
	return call(ctx, c.transport.RoundTrip, &exchange.Request{
		Method: method, Base: w.URL, Path: path, Header: header, Body: body, Limit: limit,
	})
}

// workerGet makes a call without a body. The answer is JSON.
func workerGet[T any](ctx context.Context, c *Workers, w wire.Worker, header http.Header, path string) (T, error) {
	return callFor[T](ctx, c.transport.RoundTrip, &exchange.Request{
		Method: http.MethodGet, Base: w.URL, Path: path, Header: header, Limit: exchange.MaxSmall,
	})
}

// workerPost sends a body as JSON. The answer is JSON of up to limit bytes.
func workerPost[T any](
	ctx context.Context, c *Workers, w wire.Worker, header http.Header, path string, body any, limit int,
) (T, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return *new(T), err
	}
	header["Content-Type"] = exchange.TypeJSON
	return callFor[T](ctx, c.transport.RoundTrip, &exchange.Request{
		Method: http.MethodPost, Base: w.URL, Path: path, Header: header, Body: data, Limit: limit,
	})
}

// workerHeader returns the header of a call that reads.
func workerHeader(w wire.Worker) http.Header { return nodeHeader(exchange.Bearer(w.Token)) }

// orderHeader returns the header of an order.
func orderHeader(w wire.Worker, o wire.Order) http.Header {
	header := workerHeader(w)
	header[wire.HeaderFence] = []string{o.String()}
	return header
}
