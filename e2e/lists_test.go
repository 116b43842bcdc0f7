package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/wire"
)

// listKeys is the number of keys that the writers of TestListsAndStreams share.
const listKeys = 5

// stream holds the records that one follower has received.
type stream struct {
	query client.StreamQuery
	mu    sync.Mutex // guards the fields below
	got   []wire.Record
	err   error
}

// follow follows the records until the test ends.
func (s *stream) follow(ctx context.Context, cl *client.Client) {
	for r, err := range cl.Stream(ctx, s.query) {
		s.mu.Lock()
		if err != nil {
			s.err = err
		} else {
			s.got = append(s.got, r)
		}
		s.mu.Unlock()
	}
}

func (s *stream) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// TestListsAndStreams runs a stream through each master, and kills each master once meanwhile. It checks that the
// streams, and then lists through each master, return exactly the acknowledged records in order.
func TestListsAndStreams(t *testing.T) {
	c, o := start(t), newOracle()
	writers := c.appendKeyed(o)
	c.awaitMore(writers, 50)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var followers sync.WaitGroup
	defer followers.Wait()
	defer cancel()
	var streams []*stream
	for i := range c.File().Masters {
		for _, q := range []client.StreamQuery{{}, {Key: "k1"}} {
			s := &stream{query: q}
			streams = append(streams, s)
			cl := c.client(rotated(c.File().Masters, i)...)
			followers.Go(func() { s.follow(ctx, cl) })
		}
	}
	for i := range c.File().Masters {
		name := fmt.Sprintf("master-%d", i+1)
		c.awaitMore(writers, 50)
		c.kill(name)
		c.awaitMore(writers, 50)
		c.launch(name)
		c.await("a master that is back", func() string {
			if _, err := c.masters[i].Cluster(t.Context()); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	c.awaitMore(writers, 50)
	writers.end()

	all := o.inOrder()
	of := func(key string) []*ackedRecord {
		return slices.DeleteFunc(slices.Clone(all), func(r *ackedRecord) bool { return key != "" && r.key != key })
	}
	for i, s := range streams {
		want := of(s.query.Key)
		c.await("the end of a stream", func() string {
			if n := s.count(); n < len(want) {
				return fmt.Sprintf("stream %d has %d of %d records", i, n, len(want))
			}
			return ""
		})
		s.mu.Lock()
		same(t, fmt.Sprintf("stream %d", i), s.got, want)
		if s.err != nil {
			t.Errorf("stream %d: %v", i, s.err)
		}
		s.mu.Unlock()
	}
	for i, cl := range c.masters {
		for key := range listKeys + 1 {
			q := client.ListQuery{Limit: 90}
			if key < listKeys {
				q.Key = fmt.Sprint("k", key)
			}
			var got []wire.Record
			for r, err := range cl.List(t.Context(), q) {
				if err != nil {
					t.Fatalf("list through master %d: %v", i+1, err)
				}
				got = append(got, r)
			}
			same(t, fmt.Sprintf("the list of %q through master %d", q.Key, i+1), got, of(q.Key))
		}
		for _, r := range []*ackedRecord{all[0], all[len(all)/2]} {
			p, err := cl.ProofAt(t.Context(), r.at.Block, r.at.Offset)
			if err != nil || p.Leaf != r.at.Leaf {
				t.Errorf("the proof of %v: %v", r, err)
			}
			found, err := cl.Find(t.Context(), r.at.Leaf)
			if err != nil || found.Kind != wire.KindRecord || *found.Index != r.at.Index {
				t.Errorf("the hash of %v: %+v, %v", r, found, err)
			}
		}
	}
	c.verify(o)
}

// checkLists lists all records through each master. All acknowledged records must be there, in order.
func (c *cluster) checkLists(o *oracle) {
	c.t.Helper()
	want := o.inOrder()
	for i, cl := range c.masters {
		var got []wire.Record
		for r, err := range cl.List(c.t.Context(), client.ListQuery{Limit: wire.MaxPage}) {
			if err != nil {
				c.t.Fatalf("list through master %d: %v", i+1, err)
			}
			r.Payload = nil // there may be many
			// The list may also contain records that were not acknowledged.
			if at := len(got); at < len(want) && r.Index == want[at].at.Index {
				got = append(got, r)
			}
		}
		same(c.t, fmt.Sprintf("the list through master %d", i+1), got, want)
	}
}

// same compares records with the expected records, in order.
func same(t *testing.T, what string, got []wire.Record, want []*ackedRecord) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s has %d records, %d are due", what, len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i].Index != want[i].at.Index || got[i].Leaf != want[i].at.Leaf {
			t.Fatalf("%s: record %d has index %d, where %v is due", what, i, got[i].Index, want[i])
		}
	}
}

// inOrder returns the acknowledged records in the order of their leaf indices.
func (o *oracle) inOrder() []*ackedRecord {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.SortedFunc(slices.Values(o.order), func(a, b *ackedRecord) int {
		return int(int64(a.at.Index) - int64(b.at.Index))
	})
}

// appendKeyed starts writers that append one record after the other, using a few keys.
func (c *cluster) appendKeyed(o *oracle) *acker {
	c.t.Helper()
	a := &acker{o: o, stop: make(chan struct{})}
	for i := range 2 * listKeys {
		cl := c.client(rotated(c.File().Masters, i)...)
		a.all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-a.stop:
					return
				default:
				}
				e := client.Entry{
					Payload: fmt.Appendf(nil, "writer %d, record %d", i, n), Key: fmt.Sprint("k", i%listKeys),
					IdempotencyKey: fmt.Sprintf("l%d/%d/%d", i, n, birth.UnixNano()),
				}
				at, err := cl.Append(c.t.Context(), e)
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						o.fault("writer %d, record %d: %v", i, n, err)
					}
					return
				}
				o.ack([]client.Entry{e}, []wire.Position{at})
				a.note()
			}
		})
	}
	c.t.Cleanup(a.end)
	return a
}

// note records the time of an acknowledgement.
func (a *acker) note() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
}
