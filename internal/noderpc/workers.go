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

// Workers are the calls of a master on storage nodes and miners. Each goes to one node, once, and lasts as long as its
// context lets it. It may be used by many goroutines at once. Every call may be repeated safely, and the transport sends it
// once more by itself when a kept connection turns out to be closed, unless it was in the middle of a large body.
type Workers struct {
	transport *Transport
}

// NewWorkers returns the calls of a master to its workers.
func NewWorkers(t *Transport) *Workers { return &Workers{transport: t} }

// CloseIdle closes the idle connections of the transport.
func (c *Workers) CloseIdle() { c.transport.CloseIdle() }

// StorageStatus asks a storage node what it has.
func (c *Workers) StorageStatus(ctx context.Context, w wire.Worker, o wire.Order) (wire.StorageStatus, error) {
	return workerJSON[wire.StorageStatus](ctx, c, w, &exchange.Request{
		Method: http.MethodGet, Path: wire.PathWorkerStatus, Header: orderHeader(w, o), Limit: exchange.MaxSmall,
	})
}

// MinerStatus asks a miner what it does.
func (c *Workers) MinerStatus(ctx context.Context, w wire.Worker, o wire.Order) (wire.MinerStatus, error) {
	return workerJSON[wire.MinerStatus](ctx, c, w, &exchange.Request{
		Method: http.MethodGet, Path: wire.PathWorkerStatus, Header: orderHeader(w, o), Limit: exchange.MaxSmall,
	})
}

// PutBlock stores an encoded block on a storage node and returns what the node has on disk afterwards. A block that the
// node has already is no error. The error is a [*wire.NotNextError] with what the node has where the block does not follow its
// last, and wraps [wire.ErrBadBlock] where it fails the verifier, [wire.ErrFenced] and a [*wire.FencedError] for a deposed
// leader.
func (c *Workers) PutBlock(ctx context.Context, w wire.Worker, o wire.Order, number uint64, block []byte) (wire.StorageStatus, error) {
	return c.put(ctx, w, o, wire.PathBlocks, number, block)
}

// PutInbox keeps an encoded block on a storage node whose chain does not reach to it, and returns what the node has afterwards. The error
// wraps [wire.ErrInboxFull] where it has no room, and those of [Workers.PutBlock].
func (c *Workers) PutInbox(ctx context.Context, w wire.Worker, o wire.Order, number uint64, block []byte) (wire.StorageStatus, error) {
	return c.put(ctx, w, o, wire.PathInbox, number, block)
}

func (c *Workers) put(ctx context.Context, w wire.Worker, o wire.Order, path string, number uint64, block []byte) (wire.StorageStatus, error) {
	header := orderHeader(w, o)
	header["Content-Type"] = exchange.TypeOctets
	a, err := call(ctx, c.transport.RoundTrip, &exchange.Request{
		Method: http.MethodPut, Base: w.URL, Path: path + strconv.FormatUint(number, 10),
		Header: header, Body: block, Limit: exchange.MaxSmall,
	})
	var e *wire.Error
	if errors.As(err, &e) && errors.Is(e, wire.ErrNotNext) {
		var has wire.NotNext
		if err := a.Decode(&has); err != nil {
			return wire.StorageStatus{}, err
		}
		return wire.StorageStatus{}, &wire.NotNextError{Err: e, Status: has.StorageStatus}
	}
	if err != nil {
		return wire.StorageStatus{}, err
	}
	return decoded[wire.StorageStatus](a)
}

// ReadRecords reads records with their proofs from a storage node, up to [wire.MaxPlaces], and answers for each place in
// order. Nothing is proven yet: that is for the caller, who knows the headers. The records point into one buffer per answer
// of up to [wire.MaxReadBytes]: copy what is kept for long.
func (c *Workers) ReadRecords(ctx context.Context, w wire.Worker, places []wire.Place) ([]wire.ProvenRecord, error) {
	records := make([]wire.ProvenRecord, 0, len(places))
	// A node ends an answer that has grown long, so what is left is asked for again.
	for len(records) < len(places) {
		left := places[len(records):]
		header := nodeHeader(exchange.Bearer(w.Token))
		header["Content-Type"] = exchange.TypeOctets
		a, err := call(ctx, c.transport.RoundTrip, &exchange.Request{
			Method: http.MethodPost, Base: w.URL, Path: wire.PathReadRecords,
			Header: header, Body: wire.AppendPlaces(make([]byte, 0, 12*len(left)), left), Limit: exchange.MaxRecords,
		})
		if err != nil {
			return nil, err
		}
		before := len(records)
		for data := a.Body; len(data) > 0; {
			if len(records) == len(places) {
				return nil, fmt.Errorf("%s: %w: %d bytes behind the last of %d records", w.URL, exchange.ErrAnswer, len(data), len(left))
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
// size; fewer where the node or the tree has no more. Nothing is proven yet, besides that the numbers follow each other.
func (c *Workers) Headers(ctx context.Context, w wire.Worker, from uint64, limit int, size uint64) ([]wire.ProvenHeader, error) {
	path := wire.PathHeaders + "?from=" + strconv.FormatUint(from, 10) + "&limit=" + strconv.Itoa(limit) +
		"&size=" + strconv.FormatUint(size, 10)
	a, err := call(ctx, c.transport.RoundTrip, &exchange.Request{
		Method: http.MethodGet, Base: w.URL, Path: path, Header: nodeHeader(exchange.Bearer(w.Token)), Limit: exchange.MaxMedium,
	})
	if err != nil {
		return nil, err
	}
	headers, err := wire.ParseProvenHeaders(a.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", w.URL, exchange.ErrAnswer, err)
	}
	if len(headers) > limit {
		return nil, fmt.Errorf("%s: %w: %d headers where %d were asked for", w.URL, exchange.ErrAnswer, len(headers), limit)
	}
	for i := range headers {
		if got, due := headers[i].Header.Block, from+uint64(i); got != due {
			return nil, fmt.Errorf("%s: %w: the header of block %d where that of %d is due", w.URL, exchange.ErrAnswer, got, due)
		}
	}
	return headers, nil
}

// Locate asks a storage node which block a leaf belongs to. The answer is a hint: proving the record proves it.
func (c *Workers) Locate(ctx context.Context, w wire.Worker, index uint64) (uint64, error) {
	located, err := workerJSON[wire.Located](ctx, c, w, &exchange.Request{
		Method: http.MethodGet, Path: wire.PathLocate + strconv.FormatUint(index, 10),
		Header: nodeHeader(exchange.Bearer(w.Token)), Limit: exchange.MaxSmall,
	})
	return located.Block, err
}

// ReadTiles reads tiles of the tree's hashes from a storage node, up to [wire.MaxTiles]. Nothing is proven yet.
func (c *Workers) ReadTiles(ctx context.Context, w wire.Worker, tiles []tlog.Tile) (wire.TileData, error) {
	header := nodeHeader(exchange.Bearer(w.Token))
	header["Content-Type"] = exchange.TypeOctets
	a, err := call(ctx, c.transport.RoundTrip, &exchange.Request{
		Method: http.MethodPost, Base: w.URL, Path: wire.PathReadTiles,
		Header: header, Body: wire.AppendTiles(nil, tiles), Limit: exchange.MaxSmall,
	})
	if err != nil {
		return wire.TileData{}, err
	}
	d, err := wire.ParseTileData(a.Body, tiles)
	if err != nil {
		return d, fmt.Errorf("%s: %w: %w", w.URL, exchange.ErrAnswer, err)
	}
	return d, nil
}

// Entries reads the data of count leaves from one on, up to [wire.TileWidth], from a storage node. Nothing is proven yet.
func (c *Workers) Entries(ctx context.Context, w wire.Worker, first uint64, count int) (wire.Entries, error) {
	a, err := call(ctx, c.transport.RoundTrip, &exchange.Request{
		Method: http.MethodGet, Base: w.URL,
		Path:   wire.PathEntries + "?first=" + strconv.FormatUint(first, 10) + "&count=" + strconv.Itoa(count),
		Header: nodeHeader(exchange.Bearer(w.Token)), Limit: exchange.MaxSmall,
	})
	if err != nil {
		return wire.Entries{}, err
	}
	e, err := wire.ParseEntries(a.Body)
	if err != nil {
		return e, fmt.Errorf("%s: %w: %w", w.URL, exchange.ErrAnswer, err)
	}
	return e, nil
}

// FindRecords asks a storage node's index for the places of records, in order. They are hints: proving the records proves
// them. Where the index does not reach the query's begin the answer's End is that begin.
func (c *Workers) FindRecords(ctx context.Context, w wire.Worker, q wire.RecordQuery) (wire.RecordHits, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return wire.RecordHits{}, err
	}
	header := nodeHeader(exchange.Bearer(w.Token))
	header["Content-Type"] = exchange.TypeJSON
	return workerJSON[wire.RecordHits](ctx, c, w, &exchange.Request{
		Method: http.MethodPost, Path: wire.PathFindRecords, Header: header, Body: body, Limit: exchange.MaxSmall,
	})
}

// FindHash asks a storage node's index for the leaves that may have a hash.
func (c *Workers) FindHash(ctx context.Context, w wire.Worker, h chain.Hash) (wire.RecordHits, error) {
	return workerJSON[wire.RecordHits](ctx, c, w, &exchange.Request{
		Method: http.MethodGet, Path: wire.PathFindHash + h.String(), Header: nodeHeader(exchange.Bearer(w.Token)), Limit: exchange.MaxSmall,
	})
}

// Mine has a miner look for a nonce, and waits for it as long as it takes: the context's end tells the miner to stop. The
// nonce is not checked.
func (c *Workers) Mine(ctx context.Context, w wire.Worker, o wire.Order, order wire.MineOrder) (uint64, error) {
	found, err := workerOrder[wire.Found](ctx, c, w, o, wire.PathMine, order)
	return found.Nonce, err
}

// Check has a storage node check its chain, or asks how that goes.
func (c *Workers) Check(ctx context.Context, w wire.Worker, o wire.Order, order wire.CheckOrder) (wire.CheckStatus, error) {
	return workerOrder[wire.CheckStatus](ctx, c, w, o, wire.PathCheck, order)
}

// Receive opens a storage node for a repair, or asks how that goes.
func (c *Workers) Receive(ctx context.Context, w wire.Worker, o wire.Order, order wire.ReceiveOrder) (wire.ReceiveStatus, error) {
	return workerOrder[wire.ReceiveStatus](ctx, c, w, o, wire.PathReceive, order)
}

// Send has a storage node send blocks to another, or asks how that goes.
func (c *Workers) Send(ctx context.Context, w wire.Worker, o wire.Order, order wire.SendOrder) (wire.SendStatus, error) {
	return workerOrder[wire.SendStatus](ctx, c, w, o, wire.PathSend, order)
}

// Transfer streams blocks from one storage node to another, whose repair has that ticket, for as long as write goes on, and waits for the
// receiver's word. The error wraps [wire.ErrBadBlock] where the receiver refused a block, and [wire.ErrUnauthorized] where the ticket is not open.
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
		_ = stream.CloseWithError(err) // never fails; nil ends the stream well
		written <- err
	}()
	response, err := c.transport.RoundTrip(request)
	// The receiver may have answered before the stream's end: the writer must not wait for somebody to read.
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

// workerOrder sends an order as JSON.
func workerOrder[T any](ctx context.Context, c *Workers, w wire.Worker, o wire.Order, path string, order any) (T, error) {
	body, err := json.Marshal(order)
	if err != nil {
		var none T
		return none, err
	}
	header := orderHeader(w, o)
	header["Content-Type"] = exchange.TypeJSON
	return workerJSON[T](ctx, c, w, &exchange.Request{Method: http.MethodPost, Path: path, Header: header, Body: body, Limit: exchange.MaxMedium})
}

func orderHeader(w wire.Worker, o wire.Order) http.Header {
	header := nodeHeader(exchange.Bearer(w.Token))
	header[wire.HeaderFence] = []string{o.String()}
	return header
}

func workerJSON[T any](ctx context.Context, c *Workers, w wire.Worker, q *exchange.Request) (T, error) {
	q.Base = w.URL
	a, err := call(ctx, c.transport.RoundTrip, q)
	if err != nil {
		var none T
		return none, err
	}
	return decoded[T](a)
}
