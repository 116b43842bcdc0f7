package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/wire"
)

// Each stream of a client appends clientBurst records every clientPace: more would make the final check long.
const (
	clientBurst = 10
	clientPace  = 10 * time.Millisecond
)

// clientStream appends records with the append stream of the client until it is told to stop.
type clientStream struct {
	runningStream
	o    *oracle
	last wire.Position
}

func (s *clientStream) entry(number uint64) client.Entry {
	return client.Entry{Payload: fmt.Appendf(nil, "%s, record %d", s.id, number), Key: s.id, Type: "text/plain"}
}

// run adds records from a number on and keeps their positions. Those up to known were appended before: they must get
// the positions that they have.
func (s *clientStream) run(ctx context.Context, cl *client.Client, first, known uint64, at []wire.Position) {
	stream, err := cl.NewAppendStream(ctx, client.AppendStreamConfig{ID: s.id, First: first})
	if err != nil {
		s.o.fault("%s: %v", s.id, err)
		return
	}
	futures := make(chan client.Future, 4*streamInReach)
	var collector sync.WaitGroup
	collector.Go(func() {
		number := first
		for f := range futures {
			p, err := f.Wait(ctx)
			switch {
			case err != nil:
				s.o.fault("%s: number %d: %v", s.id, number, err)
				s.stop.Store(true)
			case number <= known && p.Index != at[number-first].Index:
				s.o.fault("%s: number %d at %+v, and before at %+v", s.id, number, p, at[number-first])
			case number > known && p.Index <= s.last.Index && number > 1:
				s.o.fault("%s: number %d at %+v, behind %+v", s.id, number, p, s.last)
			case number > known:
				s.last = p
				s.o.ack([]client.Entry{s.entry(number)}, []wire.Position{p})
				s.answered.Store(number)
			}
			number++
		}
	})
	pace := time.NewTicker(clientPace)
	defer pace.Stop()
	for number := first; !s.stop.Load() || number <= known; number++ {
		if number%clientBurst == 0 {
			<-pace.C
		}
		f, err := stream.Add(ctx, s.entry(number))
		if err != nil {
			s.o.fault("%s: add number %d: %v", s.id, number, err)
			break
		}
		futures <- f
	}
	close(futures)
	if err := stream.Close(); err != nil {
		s.o.fault("%s: %v", s.id, err)
	}
	collector.Wait()
}

// TestClientStreamAcrossLeaders kills one leader after the other while the client's append streams run. No stream may
// fail. Every record must be in the chain exactly once, and those of a stream in order. In the end each stream is
// continued: its newest records get their positions again.
func TestClientStreamAcrossLeaders(t *testing.T) {
	c, o := start(t), newOracle()
	all, streams := make([]*clientStream, streamsAtOnce), make([]*runningStream, streamsAtOnce)
	var running sync.WaitGroup
	for i := range all {
		s := &clientStream{o: o, runningStream: runningStream{id: fmt.Sprintf("client-%d", i)}}
		all[i], streams[i] = s, &s.runningStream
		cl := c.client(rotated(c.File().Masters, i)...)
		running.Go(func() { s.run(t.Context(), cl, 1, 0, nil) })
	}
	kills := c.killLeaders(o, &running, streams)
	records := uint64(0)
	for i, s := range all {
		cl := c.client(rotated(c.File().Masters, i+1)...)
		state, err := cl.AppendStreamState(t.Context(), s.id)
		known := s.answered.Load()
		if err != nil || state.Next != known+1 {
			t.Errorf("%s: the next number is %d, the last answer was %d: %v", s.id, state.Next, known, err)
			continue
		}
		first := max(known, 200) - 200 + 1
		s.run(t.Context(), cl, first, known, o.newestOf(s.id, int(known-first+1)))
		records += known
	}
	t.Logf("%d records of %d streams, %d leaders killed", records, streamsAtOnce, kills)
	c.verify(o)
}

// newestOf returns the positions of the newest records of a key, in the order of their acknowledgements.
func (o *oracle) newestOf(key string, n int) (at []wire.Position) {
	for _, r := range o.all() {
		if r.key == key {
			at = append(at, r.at)
		}
	}
	return at[len(at)-n:]
}
