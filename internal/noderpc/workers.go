package noderpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// Workers are the calls from a master to storage nodes and miners. Each goes to one node, once, and lasts as long as
// its context. It may be used by many goroutines at once. Every call may be repeated safely. So when a kept connection
// turns out to be closed, the transport repeats the call on another connection, unless it had sent part of a large
// body.
type Workers struct {
	secrets   nodeauth.Secrets
	transport *Transport
	group     func() string // nil for a caller that gives no orders
	older     func() bool   // nil for never: see ToOlder
}

// NewWorkers returns the calls of a master to its workers, and of a storage node to another one.
func NewWorkers(t *Transport, secrets nodeauth.Secrets) *Workers {
	return &Workers{secrets: secrets, transport: t}
}

// From makes orders name the group of the leader that gives them. It must be set before the first call.
func (c *Workers) From(group func() string) { c.group = group }

// ToOlder says when older workers get their master token with each call. It must be set before the first call.
func (c *Workers) ToOlder(may func() bool) { c.older = may }

// CloseIdle closes the idle connections of the transport.
func (c *Workers) CloseIdle() { c.transport.CloseIdle() }

// StorageStatus asks a storage node for its status.
func (c *Workers) StorageStatus(ctx context.Context, w wire.Worker, o wire.Order) (wire.StorageStatus, error) {
	t, way := c.order(w, o).watched()
	status, err := decode[wire.StorageStatus](t.get(ctx, wire.PathWorkerStatus, exchange.MaxSmall))
	way.check(status.TLS, status.Certificate)
	return status, err
}

// MinerStatus asks a miner for its status.
func (c *Workers) MinerStatus(ctx context.Context, w wire.Worker, o wire.Order) (wire.MinerStatus, error) {
	t, way := c.order(w, o).watched()
	status, err := decode[wire.MinerStatus](t.get(ctx, wire.PathWorkerStatus, exchange.MaxSmall))
	way.check(status.TLS, status.Certificate)
	return status, err
}

// Profile takes a profile of a worker's process.
func (c *Workers) Profile(ctx context.Context, w wire.Worker, q wire.ProfileRequest) ([]byte, error) {
	return profileOf(c.at(w).post(ctx, wire.PathWorkerProfile, q, exchange.MaxMedium))
}

// ProbeTLS makes a worker try TLS with other nodes.
func (c *Workers) ProbeTLS(
	ctx context.Context, w wire.Worker, o wire.Order, p wire.TLSProbe,
) (wire.TLSProbed, error) {
	return decode[wire.TLSProbed](c.order(w, o).post(ctx, wire.PathWorkerTLS, p, exchange.MaxMedium))
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
	path += strconv.FormatUint(number, 10)
	t, way := c.order(w, o).watched()
	status, err := decode[wire.StorageStatus](t.octets(ctx, http.MethodPut, path, block, exchange.MaxSmall))
	way.check(status.TLS, status.Certificate)
	if has, ok := errors.AsType[*wire.NotNextError](err); ok {
		way.check(has.Status.TLS, has.Status.Certificate)
	}
	return status, err
}

// ReadRecords reads records with their proofs from a storage node, one for each place in order, and up to
// [wire.MaxPlaces]. It does not verify the proofs: the caller knows the headers. The caller knows the leaf hashes of
// the first known places, for which the node sends no path, unless it is an older one. The records share one buffer for
// each answer of up to [wire.MaxReadBytes]: copy those that are kept for long.
func (c *Workers) ReadRecords(
	ctx context.Context, w wire.Worker, places []wire.Place, known int,
) ([]wire.ProvenRecord, error) {
	records := make([]wire.ProvenRecord, 0, len(places))
	// A node ends an answer that has become long. The rest is requested again.
	for len(records) < len(places) {
		left := places[len(records):]
		request := wire.AppendPlaces(make([]byte, 0, 12*len(left)), left)
		path := wire.PathReadRecords
		if n := known - len(records); n > 0 {
			path += "?" + wire.ParamKnown + "=" + strconv.Itoa(n)
		}
		a, err := c.at(w).part(ctx, path, request, maxRecords(len(left)))
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
			if p, data, err = wire.ParseProvenRecord(data); err != nil && a.Cut && len(records) > before {
				break // it is requested again
			} else if err != nil {
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

// maxRecords is how much of an answer with up to n records is read, in bytes. An older node may send more, and so may a
// faulty one.
func maxRecords(n int) int {
	if n == 1 {
		return wire.MaxProvenRecord
	}
	return min(n*wire.MaxProvenRecord, wire.MaxReadBytes+wire.MaxProvenRecord)
}

// Headers reads up to limit headers from block from on, each with the inclusion path of its seal in the tree of that
// size. There are fewer if the node or the tree has no more. It checks that the block numbers are consecutive, but does
// not verify the proofs.
func (c *Workers) Headers(
	ctx context.Context, w wire.Worker, from uint64, limit int, size uint64,
) ([]wire.ProvenHeader, error) {
	path := wire.PathHeaders + "?from=" + strconv.FormatUint(from, 10) + "&limit=" + strconv.Itoa(limit) +
		"&size=" + strconv.FormatUint(size, 10)
	a, err := c.at(w).get(ctx, path, exchange.MaxMedium)
	headers, err := parsed(a, err, wire.ParseProvenHeaders)
	if err != nil {
		return nil, err
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
	located, err := decode[wire.Located](c.at(w).get(ctx, path, exchange.MaxSmall))
	return located.Block, err
}

// ReadTiles reads up to [wire.MaxTiles] tiles of the tree's hashes from a storage node. It proves nothing.
func (c *Workers) ReadTiles(ctx context.Context, w wire.Worker, tiles []tlog.Tile) (wire.TileData, error) {
	request := wire.AppendTiles(nil, tiles)
	a, err := c.at(w).octets(ctx, http.MethodPost, wire.PathReadTiles, request, exchange.MaxSmall)
	return parsed(a, err, func(body []byte) (wire.TileData, error) { return wire.ParseTileData(body, tiles) })
}

// Entries reads the data of count leaves from leaf first on, up to [wire.TileWidth], from a storage node. It proves
// nothing.
func (c *Workers) Entries(ctx context.Context, w wire.Worker, first uint64, count int) (wire.Entries, error) {
	path := wire.PathEntries + "?first=" + strconv.FormatUint(first, 10) + "&count=" + strconv.Itoa(count)
	a, err := c.at(w).get(ctx, path, exchange.MaxSmall)
	return parsed(a, err, wire.ParseEntries)
}

// FindRecords asks a storage node's index for the places of records, in order. They are hints. The proofs of the
// records prove them. If the index does not reach the start of the query, the answer's End is that start.
func (c *Workers) FindRecords(ctx context.Context, w wire.Worker, q wire.RecordQuery) (wire.RecordHits, error) {
	return decode[wire.RecordHits](c.at(w).post(ctx, wire.PathFindRecords, q, exchange.MaxSmall))
}

// FindHash asks a storage node's index for the leaves that may have a hash.
func (c *Workers) FindHash(ctx context.Context, w wire.Worker, h chain.Hash) (wire.RecordHits, error) {
	return decode[wire.RecordHits](c.at(w).get(ctx, wire.PathFindHash+h.String(), exchange.MaxSmall))
}

// Mine makes a miner search for a nonce and waits for it. The end of the context stops the miner. The nonce is not
// checked.
func (c *Workers) Mine(ctx context.Context, w wire.Worker, o wire.Order, order wire.MineOrder) (uint64, error) {
	found, err := decode[wire.Found](c.order(w, o).post(ctx, wire.PathMine, order, exchange.MaxSmall))
	return found.Nonce, err
}

// Check makes a storage node check its chain, or returns the status of that check.
func (c *Workers) Check(
	ctx context.Context, w wire.Worker, o wire.Order, order wire.CheckOrder,
) (wire.CheckStatus, error) {
	return decode[wire.CheckStatus](c.order(w, o).post(ctx, wire.PathCheck, order, exchange.MaxSmall))
}

// Receive opens a storage node for a repair, or returns the status of that repair.
func (c *Workers) Receive(
	ctx context.Context, w wire.Worker, o wire.Order, order wire.ReceiveOrder,
) (wire.ReceiveStatus, error) {
	return decode[wire.ReceiveStatus](c.order(w, o).post(ctx, wire.PathReceive, order, exchange.MaxSmall))
}

// Send makes a storage node send blocks to another one, or returns the status of that.
func (c *Workers) Send(
	ctx context.Context, w wire.Worker, o wire.Order, order wire.SendOrder,
) (wire.SendStatus, error) {
	return decode[wire.SendStatus](c.order(w, o).post(ctx, wire.PathSend, order, exchange.MaxSmall))
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
	response, err := c.transport.As(c.secrets.For(nodeauth.Storage))(request)
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

// at returns the target of a call that reads.
func (c *Workers) at(w wire.Worker) target {
	if w.Older && c.older != nil && c.older() {
		t := target{send: c.transport.RoundTrip, url: w.URL, header: nodeHeader()}
		t.header["Authorization"] = exchange.Bearer(w.Token)
		return t
	}
	return newTarget(c.transport, w.URL, c.secrets.ForWorker(w.Miner, w.Token))
}

// order returns the target of an order.
func (c *Workers) order(w wire.Worker, o wire.Order) target {
	t := c.at(w)
	t.header[wire.HeaderFence] = []string{o.String()}
	if c.group != nil {
		t.header[wire.HeaderCaller] = []string{wire.Caller{Group: c.group(), Order: o}.String()}
	}
	return t
}
