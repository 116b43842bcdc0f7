package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/wire"
)

// batching appends records with a Batcher until it is told to stop.
type batching struct {
	runningStream
	o *oracle
}

func (s *batching) run(ctx context.Context, cl *client.Client) {
	b := cl.NewBatcher(ctx, client.BatcherConfig{})
	type sent struct {
		entry  client.Entry
		future client.Future
	}
	futures := make(chan sent, 4*streamInReach)
	var collector sync.WaitGroup
	collector.Go(func() {
		var last wire.Position
		for f := range futures {
			p, err := f.future.Wait(ctx)
			switch n := s.answered.Load(); {
			case err != nil:
				s.o.fault("%s: record %d: %v", s.id, n+1, err)
				s.stop.Store(true)
			case n > 0 && p.Index <= last.Index:
				s.o.fault("%s: record %d at %+v, behind %+v", s.id, n+1, p, last)
			default:
				last = p
				s.o.ack([]client.Entry{f.entry}, []wire.Position{p})
				s.answered.Add(1)
			}
		}
	})
	pace := time.NewTicker(clientPace)
	defer pace.Stop()
	for n := 1; !s.stop.Load(); n++ {
		if n%clientBurst == 0 {
			<-pace.C
		}
		e := client.Entry{Payload: fmt.Appendf(nil, "%s, record %d", s.id, n), Key: s.id, Type: "text/plain"}
		f, err := b.Add(ctx, e)
		if err != nil {
			s.o.fault("%s: add record %d: %v", s.id, n, err)
			break
		}
		futures <- sent{e, f}
	}
	close(futures)
	if err := b.Close(); err != nil {
		s.o.fault("%s: %v", s.id, err)
	}
	collector.Wait()
}

// TestBatcherAcrossMasters kills one leader after the other, and then each master once, while Batchers run, each of
// which began at another master. None may fail. Every record must be in the chain exactly once, and those of a Batcher
// in order.
func TestBatcherAcrossMasters(t *testing.T) {
	c, o := start(t), newOracle()
	all := make([]*runningStream, streamsAtOnce)
	run := func(running *sync.WaitGroup, round int) {
		for i := range all {
			s := &batching{o: o, runningStream: runningStream{id: fmt.Sprintf("batcher-%d-%d", round, i)}}
			all[i] = &s.runningStream
			cl := c.client(rotated(c.File().Masters, i)...)
			running.Go(func() { s.run(t.Context(), cl) })
		}
	}
	var running sync.WaitGroup
	c.await("the protocol level of streams", func() string {
		if _, err := c.client(c.File().Masters...).OpenAppendStream(t.Context()); err != nil {
			return err.Error()
		}
		return ""
	})
	run(&running, 1)
	kills := c.killLeaders(o, &running, all)
	run(&running, 2)
	c.killEach(o, &running, all)
	cl := c.client(c.File().Masters...)
	page, err := cl.AppendStreams(t.Context(), "", wire.MaxPage)
	if err != nil {
		t.Fatal(err)
	}
	streamed := uint64(0)
	for _, s := range page.Streams {
		if strings.HasPrefix(s.Stream, wire.OwnStreamID) && s.Kind == wire.StreamUnnamed {
			streamed += s.Last
		}
	}
	if streamed != uint64(o.count()) {
		t.Errorf("%d of %d records were sent through streams", streamed, o.count())
	}
	t.Logf("%d records of %d Batchers, %d leaders killed", o.count(), 2*streamsAtOnce, kills)
	c.verify(o)
}
