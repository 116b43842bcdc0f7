package masternode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

const (
	// maxStreams is how many streams a master serves at a time.
	maxStreams = 256
	// How many records, and bytes of payloads, a stream reads before it writes them.
	streamRecords = 256
	streamBytes   = 1 << 20
	// streamBeat is how long a stream may be silent, streamCheck the interval of checks of the reader's permission.
	streamBeat  = 10 * time.Second
	streamCheck = time.Second
)

// StreamSink receives a stream. An error ends the stream.
type StreamSink interface {
	// Records receives records in order. They belong to the sink until it returns.
	Records(records []Record) error
	// Alive reports, at the start and regularly after that, that all records before a leaf index were sent.
	Alive(next uint64) error
}

// StreamQuery selects what a stream sends.
type StreamQuery struct {
	Query
	// Now starts the stream with the next append, whatever Query.From is.
	Now bool
}

// Stream sends the records of a query in order, each once, and continues with new ones, until ctx ends, the sink fails,
// or access returns an error. It calls access each second for the reader's permission. Memory is bounded by a page of
// records. Errors: those of List and access, wire.ErrTooManyStreams.
func (n *Node) Stream(
	ctx context.Context, q StreamQuery, access func(context.Context) (masterfsm.Access, error), sink StreamSink,
) error {
	select {
	case n.streams <- struct{}{}:
		defer func() { <-n.streams }()
	default:
		return fmt.Errorf("%w: this master serves %d, the limit; ask another, or end one", wire.ErrTooManyStreams,
			maxStreams)
	}
	reader, err := access(ctx)
	if err != nil {
		return err
	}
	if q.Now {
		if err := n.confirm(ctx); err != nil {
			return err
		}
		n.cfg.Ledger.Read(func(s *masterfsm.State) { q.From = s.NextIndex() })
	}
	w, err := n.newWalk(ctx, reader, q.Query)
	if err != nil {
		return err
	}
	if err := sink.Alive(w.next); err != nil {
		return err
	}
	return n.follow(ctx, w, access, sink)
}

// follow continues the walk until it fails.
func (n *Node) follow(
	ctx context.Context, w *walk, access func(context.Context) (masterfsm.Access, error), sink StreamSink,
) error {
	ticker := time.NewTicker(streamCheck)
	defer ticker.Stop()
	last := n.cfg.Clock() // when something was sent last
	for {
		changed := n.cfg.Ledger.StateChanged()
		// The token may have been revoked, or the project made private, meanwhile.
		reader, err := access(ctx)
		if err != nil {
			return err
		}
		if w.owner, err = n.MayRead(ctx, reader, w.owner.ID); err != nil {
			return err
		}
		w.startPage(streamRecords, streamBytes)
		err = w.run(ctx)
		if len(w.records) > 0 {
			if err := sink.Records(w.records); err != nil {
				return err
			}
			last = n.cfg.Clock()
		}
		if w.full() {
			continue
		}
		if now := n.cfg.Clock(); now.Sub(last) >= streamBeat {
			if err := sink.Alive(w.next); err != nil {
				return err
			}
			last = now
		}
		if err != nil {
			if !errors.Is(err, wire.ErrUnavailable) {
				return err
			}
			changed = nil // the storage nodes may have it soon; a change of the state does not help
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-ticker.C:
		}
	}
}
