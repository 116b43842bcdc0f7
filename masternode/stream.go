package masternode

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masterfsm/streams"
	"github.com/chainstore/chainstore/masternode/appendstream"
	"github.com/chainstore/chainstore/wire"
)

const (
	// maxStreams is how many streams a master serves at a time, and how many append streams. streamsEach is how many of
	// the latter a project may have.
	maxStreams  = 256
	streamsEach = maxStreams / 4
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

// AppendStream is a request that appends to a stream of a project.
type AppendStream struct {
	ID    string // see wire.CheckStreamID
	New   bool   // ID was made for this request, by NewStreamID
	First uint64 // the number of the first record of the request, from 1
	// Access returns what the sender may do, before each part is sent.
	Access func(context.Context) (masterfsm.Access, error)
	Body   AppendSource
	Sink   AppendSink
}

// AppendSource is the body of an append stream. One goroutine calls Next and Drain, another one Stop.
type AppendSource interface {
	// Next reads records: at least one and at most so many. It blocks only for the first. io.EOF is the end.
	Next(most int) ([]Entry, error)
	// Drain reads and drops the rest of the body.
	Drain()
	// Stop makes Next and Drain return, now and in the future.
	Stop()
	// Free says that the records of which Next returned the payloads, of so many bytes in total, were answered.
	Free(payloads int)
}

// AppendSink takes the answers of an append stream. One goroutine calls it.
type AppendSink interface {
	// Begin says that the stream continues with the request's first record. It comes before all answers.
	Begin() error
	// Answer writes the positions of consecutive records.
	Answer(first uint64, positions []wire.Position) error
	// Flush sends what was written.
	Flush() error
}

// NewStreamID makes the id of a stream whose client has chosen none. A client can continue such a stream, but not begin
// one: it would begin again when the table has forgotten it.
func NewStreamID() string { return wire.OwnStreamID + rand.Text() }

// begins reports whether the request may begin a stream.
func (q *AppendStream) begins() bool { return q.First == 1 && (q.New || q.named()) }

// named reports whether a client has chosen the id.
func (q *AppendStream) named() bool { return !strings.HasPrefix(q.ID, wire.OwnStreamID) }

// part returns the description of a part of the request that begins with a number, for a group at a protocol level.
func (q *AppendStream) part(level, first uint64, sender *masterfsm.Access) masterfsm.Part {
	p := masterfsm.Part{Stream: masterfsm.StreamDigest(q.ID), First: first, Token: sender.Token}
	if q.named() {
		p.Flags |= masterfsm.PartNamed
	}
	if first == 1 && q.begins() {
		p.Flags |= masterfsm.PartBegins
	}
	if first == q.First && level >= masterfsm.LevelStreamIDs {
		p.Flags |= masterfsm.PartHasID
		p.ID = q.ID
	}
	if sender.MayRead(&sender.Project) {
		p.Flags |= masterfsm.PartReader
	}
	return p
}

// AppendStreamState returns where an append stream of a project continues, as the leader confirms it. Errors:
// wire.ErrUnknownStream, wire.ErrNoStreams, wire.ErrNoLeader.
func (n *Node) AppendStreamState(ctx context.Context, project uint32, id string) (wire.AppendStream, error) {
	if err := n.confirm(ctx); err != nil {
		return wire.AppendStream{}, err
	}
	var stream streams.State
	var known bool
	var window uint64
	if err := n.readStreams(masterfsm.LevelStreams, func(s *masterfsm.State) {
		stream, known = s.Stream(project, masterfsm.StreamDigest(id))
		window = s.StreamWindow()
	}); err != nil {
		return wire.AppendStream{}, err
	}
	if !known {
		return wire.AppendStream{}, fmt.Errorf("%w: %s", wire.ErrUnknownStream, id)
	}
	return wireStream(id, &stream, window), nil
}

func wireStream(id string, s *streams.State, window uint64) wire.AppendStream {
	return wire.AppendStream{Stream: id, Next: s.Last + 1, Oldest: s.Oldest, Window: window}
}

// streamWindow is how many records of an append stream have their positions in the table at most.
func (n *Node) streamWindow() (window uint64) {
	n.cfg.Ledger.Read(func(s *masterfsm.State) { window = s.StreamWindow() })
	return window
}

// readStreams reads the state, if the group has a protocol level. The error wraps wire.ErrNoStreams.
func (n *Node) readStreams(needed uint64, read func(*masterfsm.State)) error {
	var level uint64
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		if level = s.Level(); level >= needed {
			read(s)
		}
	})
	if level < needed {
		return fmt.Errorf("%w: the group is at protocol level %d, this needs level %d", wire.ErrNoStreams, level,
			needed)
	}
	return nil
}

// AppendStreams lists up to limit append streams of a project whose ids come after one, in the order of their ids, as
// the leader confirms them. Errors: wire.ErrNoStreams, wire.ErrNoLeader.
func (n *Node) AppendStreams(
	ctx context.Context, project uint32, after string, limit int,
) ([]wire.ListedStream, error) {
	if err := n.confirm(ctx); err != nil {
		return nil, err
	}
	var all []streams.State
	err := n.readStreams(masterfsm.LevelStreamIDs, func(s *masterfsm.State) { all = s.Streams(project, after, limit) })
	list := make([]wire.ListedStream, len(all))
	for i := range all {
		s := &all[i]
		list[i] = wire.ListedStream{Stream: s.ID, Kind: wire.StreamUnnamed, Last: s.Last, IdleSince: s.Time}
		if s.Named {
			list[i].Kind = wire.StreamNamed
		}
	}
	return list, err
}

// OpenStream begins an append stream of a project whose id this master makes, and returns its state. The client can
// then send its first records as often as it takes: they are appended once, and not at all when the stream was
// forgotten. This master must lead. Errors: wire.ErrNotLeader, wire.ErrNoStreams, wire.ErrTooMany.
func (n *Node) OpenStream(ctx context.Context, project uint32) (wire.AppendStream, error) {
	if err := n.confirm(ctx); err != nil {
		return wire.AppendStream{}, err
	}
	var window uint64
	if err := n.readStreams(masterfsm.LevelStreamIDs, func(s *masterfsm.State) {
		window = s.StreamWindow()
	}); err != nil {
		return wire.AppendStream{}, err
	}
	id := NewStreamID()
	_, err := n.leader.Propose(ctx, &masterfsm.OpenStream{
		Project: project, ID: id, Time: n.leader.Now(), Age: n.leader.Age(),
	})
	switch {
	case errors.Is(err, wire.ErrTooMany):
		return wire.AppendStream{}, tooManyStreams(err)
	case err != nil:
		return wire.AppendStream{}, err
	}
	return wireStream(id, &streams.State{Oldest: 1}, window), nil
}

// tooManyStreams adds to an error of the state machine which bound there is.
func tooManyStreams(err error) error {
	return fmt.Errorf("%w: the project has %d append streams whose ids were chosen by clients, or %d others, or all "+
		"projects together have as many as the masters can remember; remove one with DELETE /v1/streams/{id}", err,
		streams.Named, streams.Unnamed)
}

// RemoveStream makes the group forget an append stream of a project. Its records stay, and another stream may have its
// id. This master must lead. Errors: wire.ErrNotLeader, wire.ErrUnknownStream, wire.ErrNoStreams.
func (n *Node) RemoveStream(ctx context.Context, project uint32, id string) error {
	if _, err := n.AppendStreamState(ctx, project, id); err != nil {
		return err
	}
	_, err := n.leader.Propose(ctx, &masterfsm.RemoveStream{
		Project: project, Stream: masterfsm.StreamDigest(id), Time: n.leader.Now(),
	})
	return err
}

// slots are the append streams that a master serves.
type slots struct {
	mu        sync.Mutex // guards the others
	taken     int
	byProject map[uint32]int
}

// take takes a slot for a project. The error wraps wire.ErrTooManyStreams.
func (s *slots) take(project uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.taken >= maxStreams:
		return fmt.Errorf("%w: this master serves %d append streams, the limit; ask another, or end one",
			wire.ErrTooManyStreams, maxStreams)
	case s.byProject[project] >= streamsEach:
		return fmt.Errorf("%w: this master serves %d append streams of the project, the limit; ask another, or end one",
			wire.ErrTooManyStreams, streamsEach)
	case s.byProject == nil:
		s.byProject = map[uint32]int{}
	}
	s.taken++
	s.byProject[project]++
	return nil
}

// free gives a slot back.
func (s *slots) free(project uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.byProject[project]--; s.byProject[project] == 0 {
		delete(s.byProject, project)
	}
}

// appendBytes bounds the records of an append stream that have no answer: at this size no more are read.
const appendBytes = 4 << 20

// AppendStream appends the records of a stream one after the other, answers each when it is committed, and returns the
// number of the last one whose position is known. Records that the stream has already get their first positions. Errors
// before Begin of the sink: wire.ErrTooManyStreams, wire.ErrStreamGap, wire.ErrUnknownStream, wire.ErrNoStreams,
// wire.ErrNoLeader. After it also those of Append, of the request's functions, wire.ErrStreamPassed,
// wire.ErrStreamContent, wire.ErrUnreadAnswers, and the cause of the end of ctx.
func (n *Node) AppendStream(ctx context.Context, project masterfsm.Project, q AppendStream) (last uint64, err error) {
	if err := n.appending.take(project.ID); err != nil {
		return 0, err
	}
	defer n.appending.free(project.ID)
	state, err := n.AppendStreamState(ctx, project.ID, q.ID)
	switch {
	case errors.Is(err, wire.ErrUnknownStream) && q.begins():
	case err != nil:
		return 0, err
	case q.First > state.Next:
		return 0, fmt.Errorf("%w: its next number is %d, the request begins with %d", wire.ErrStreamGap, state.Next,
			q.First)
	}
	if err := q.Sink.Begin(); err != nil {
		return 0, err
	}
	// A part that is under way comes to its end when the client is gone: the next request may continue behind it.
	parts := context.WithoutCancel(ctx)
	var level, window uint64
	n.cfg.Ledger.Read(func(s *masterfsm.State) { level, window = s.Level(), s.StreamWindow() })
	var sender masterfsm.Access // as Limit has seen it last; Limit and Submit are called in turn
	return appendstream.Run(ctx, appendstream.Config[Entry]{
		First: q.First, Window: int(window), Bytes: appendBytes,
		Next: q.Body.Next, Drain: q.Body.Drain, Stop: q.Body.Stop,
		Size: func(e Entry) int { return len(e.Key) + len(e.Type) + len(e.Payload) + chain.RecordOverhead },
		Limit: func() (records, bytes int, err error) {
			if sender, err = q.Access(parts); err == nil {
				err = MayAppend(sender)
			}
			const most = 1 << 30
			quota := sender.Project.Quota
			return int(min(quota.RecordsPerSecond, most)), int(min(quota.BytesPerSecond, most)), err
		},
		Submit: func(first uint64, entries []Entry) func() ([]wire.Position, error) {
			return n.appendPart(parts, project.ID, q.part(level, first, &sender), entries)
		},
		Answer: q.Sink.Answer, Flush: q.Sink.Flush, Answered: func(entries []Entry) {
			payloads := 0
			for i := range entries {
				payloads += len(entries[i].Payload)
			}
			q.Body.Free(payloads)
		},
	})
}

// appendPart begins to append a part of a stream.
func (n *Node) appendPart(
	ctx context.Context, project uint32, part masterfsm.Part, entries []Entry,
) (wait func() ([]wire.Position, error)) {
	began, first := time.Now(), part.First
	failed := func(err error) func() ([]wire.Position, error) {
		return func() ([]wire.Position, error) { return nil, err }
	}
	for i := range entries { // each as if it came alone
		if err := n.cfg.Limits.check(entries[i:i+1], ""); err != nil {
			return failed(fmt.Errorf("number %d: %w", first+uint64(i), err))
		}
	}
	d := masterfsm.Demand{Project: project, Stream: part.Stream, First: first}
	if err := n.admitEarly(ctx, d, entries); err != nil {
		return failed(err)
	}
	p, err := prepare(project, entries, "")
	if err != nil {
		return failed(err)
	}
	p.part, p.deadline = part, ctx
	call := n.appends.Start(p)
	return func() (_ []wire.Position, err error) {
		defer n.cfg.Histograms.Append.Done(began, &err)
		placement, err := call.Wait(ctx)
		if err != nil {
			return nil, err
		}
		switch err := placement.Err.Error(); {
		case errors.Is(err, wire.ErrStreamGap):
			return nil, &appendstream.Gap{Next: placement.Next}
		case errors.Is(err, wire.ErrStreamPassed):
			return nil, fmt.Errorf("%w: number %d was appended, but only the newest %d positions are remembered; the "+
				"next number is %d", err, first, n.streamWindow(), placement.Next)
		case placement.Err == masterfsm.RefusedForeign:
			return nil, fmt.Errorf("%w: number %d was appended before, not by this token, and records are compared "+
				"only for the token that has sent them, or one that may read; the next number is %d", err, first,
				placement.Next)
		case errors.Is(err, wire.ErrTooMany):
			return nil, tooManyStreams(err)
		case err != nil:
			return nil, n.refused(err, project, placement)
		case placement.Replay:
			return n.replayPart(ctx, first, entries, placement)
		}
		return p.positions(placement), nil
	}
}

// replayReads is how many records of a part that was sent again are read at a time.
const replayReads = 64

// replayPart returns the first positions of records that were sent again. They are read, because the leaf depends on
// the time and the salt that they got then. The error wraps wire.ErrStreamContent if one is another record.
func (n *Node) replayPart(
	ctx context.Context, first uint64, entries []Entry, p masterfsm.Placement,
) ([]wire.Position, error) {
	positions := make([]wire.Position, len(entries))
	var g errgroup.Group
	g.SetLimit(replayReads)
	at := 0
	for _, run := range p.Runs {
		for i := range run.Count {
			number, e := at, &entries[at]
			at++
			g.Go(func() error {
				r, err := n.anyRecord(ctx, run.Block, run.Offset+i)
				if err != nil {
					return fmt.Errorf("read number %d, which was appended before: %w", first+uint64(number), err)
				}
				if r.Key != e.Key || r.Type != e.Type || !bytes.Equal(r.Payload, e.Payload) {
					return fmt.Errorf("%w: number %d is at leaf %d and is another record: a record that is sent again "+
						"must not change", wire.ErrStreamContent, first+uint64(number), r.At.Index)
				}
				positions[number] = r.Position()
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return positions, nil
}
