package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/wire"
)

const (
	streamsAtOnce = 3
	streamInReach = 500 // records of a stream without an answer: fewer than the window
)

// numberedStream appends records through append streams until it is told to stop, and keeps what was answered.
type numberedStream struct {
	runningStream
	c         *cluster
	o         *oracle
	positions []wire.Position
	requests  int
}

// runningStream is what the tests of append streams have in common.
type runningStream struct {
	id       string
	answered atomic.Uint64 // number of the last answer
	stop     atomic.Bool
}

// killLeaders kills one leader after the other while streams run. Each stream must go on after each. Then it ends them,
// and returns how many leaders were killed.
func (c *cluster) killLeaders(o *oracle, running *sync.WaitGroup, streams []*runningStream) (kills int) {
	c.t.Helper()
	more, end := c.watch(o, running, streams)
	more()
	kills = 3
	if settings.times {
		kills = 10
	}
	for range kills {
		leader := c.leader("")
		c.kill(leader)
		c.leader(leader)
		more()
		c.launch(leader)
		c.awaitComplete(3)
		more()
	}
	end()
	return kills
}

// killEach kills one master after the other, whatever it is, while streams run. Then it ends them.
func (c *cluster) killEach(o *oracle, running *sync.WaitGroup, streams []*runningStream) {
	c.t.Helper()
	more, end := c.watch(o, running, streams)
	more()
	for i := range c.File().Masters {
		master := fmt.Sprint("master-", i+1)
		c.kill(master)
		more()
		c.launch(master)
		c.awaitComplete(3)
		more()
	}
	end()
}

// watch returns functions that wait until each stream has gone on, and that end all of them.
func (c *cluster) watch(o *oracle, running *sync.WaitGroup, streams []*runningStream) (more, end func()) {
	streams = slices.Clone(streams)
	end = func() {
		for _, s := range streams {
			s.stop.Store(true)
		}
		running.Wait()
	}
	c.t.Cleanup(end)
	more = func() {
		c.t.Helper()
		for _, s := range streams {
			want := s.answered.Load() + streamInReach
			c.await("answers of "+s.id, func() string {
				if got := s.answered.Load(); got < want && !o.failed() {
					return fmt.Sprintf("%d of %d", got, want)
				}
				return ""
			})
		}
	}
	return more, end
}

func (s *numberedStream) entry(number uint64) client.Entry {
	return client.Entry{Payload: fmt.Appendf(nil, "%s, record %d", s.id, number), Key: s.id, Type: "text/plain"}
}

// run makes requests at all masters in turn. Each continues behind the last answer, so the records that were appended
// without an answer are sent again.
func (s *numberedStream) run(first int) {
	masters := s.c.File().Masters
	for i := first; ; i++ {
		s.requests++
		ended := s.request(masters[i%len(masters)])
		if ended && s.stop.Load() || s.o.failed() {
			return
		}
		// A master that is down refuses at once. The records that it refuses are no load for the others.
		s.c.await("a master that serves streams", func() string {
			i++
			if _, err := s.next(masters[i%len(masters)]); err != nil {
				return err.Error()
			}
			return ""
		})
	}
}

func (s *numberedStream) call(ctx context.Context, method, url string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+s.c.projectToken())
	return http.DefaultClient.Do(r)
}

// next asks a master for the number that the stream's next record gets.
func (s *numberedStream) next(master string) (uint64, error) {
	ctx, cancel := context.WithTimeout(s.c.t.Context(), 10*time.Second)
	defer cancel()
	answer, err := s.call(ctx, http.MethodGet, master+"/v1/streams/"+s.id, nil)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	var state wire.AppendStream
	switch err := json.NewDecoder(answer.Body).Decode(&state); {
	case answer.StatusCode == http.StatusNotFound && s.answered.Load() == 0:
		return 1, nil
	case answer.StatusCode != http.StatusOK:
		return 0, fmt.Errorf("%s: %s", master, answer.Status)
	case err != nil:
		return 0, err
	}
	if state.Next <= s.answered.Load() {
		s.o.fault("%s: the next number is %d, and %d was answered", s.id, state.Next, s.answered.Load())
	}
	return state.Next, nil
}

// request is one request. It reports whether it came to its end without an error.
func (s *numberedStream) request(master string) bool {
	ctx, cancel := context.WithCancel(s.c.t.Context())
	defer cancel()
	from := s.answered.Load() + 1
	body, records := io.Pipe()
	room := make(chan struct{}, streamInReach)
	var sender sync.WaitGroup
	defer sender.Wait()
	defer body.Close()
	sender.Go(func() {
		defer records.Close()
		for n := from; !s.stop.Load(); n++ {
			select {
			case room <- struct{}{}:
			case <-ctx.Done():
				return
			}
			e := s.entry(n)
			line, _ := json.Marshal(wire.BatchLine{Payload: &e.Payload, Key: e.Key, Type: e.Type})
			if _, err := records.Write(append(line, '\n')); err != nil {
				return
			}
		}
	})
	answer, err := s.call(ctx, http.MethodPost,
		fmt.Sprintf("%s/v1/records:stream?stream=%s&first=%d", master, s.id, from), body)
	if err != nil {
		cancel()
		return false
	}
	defer answer.Body.Close()
	defer cancel()
	lines := bufio.NewScanner(answer.Body)
	for number := from; lines.Scan(); number++ {
		var a wire.StreamAnswer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil || answer.StatusCode != http.StatusOK {
			return false // cut off, or a problem
		}
		if a.End {
			return a.Problem == nil
		}
		if a.Number != number || len(s.positions) > 0 && a.Index <= s.positions[len(s.positions)-1].Index {
			s.o.fault("%s: number %d at %+v, behind number %d", s.id, a.Number, a.Position, len(s.positions))
			return false
		}
		s.positions = append(s.positions, *a.Position)
		s.o.ack([]client.Entry{s.entry(number)}, []wire.Position{*a.Position})
		s.answered.Store(number)
		<-room
	}
	return false
}

// TestAppendStreamAcrossLeaders kills one leader after the other while streams run, each through all masters. Every
// record must be in the chain exactly once, and those of a stream in order.
func TestAppendStreamAcrossLeaders(t *testing.T) {
	c, o := start(t), newOracle()
	var all []*numberedStream
	var streams []*runningStream
	var running sync.WaitGroup
	for i := range streamsAtOnce {
		s := &numberedStream{c: c, o: o, runningStream: runningStream{id: fmt.Sprintf("stream-%d", i)}}
		all, streams = append(all, s), append(streams, &s.runningStream)
		c.await("the protocol level of streams", func() string {
			if _, err := s.next(c.File().Masters[i]); err != nil {
				return err.Error()
			}
			return ""
		})
		running.Go(func() { s.run(i) })
	}
	kills := c.killLeaders(o, &running, streams)
	records, requests := uint64(0), 0
	for _, s := range all {
		last, err := s.next(c.File().Masters[0])
		if last != s.answered.Load()+1 || err != nil {
			t.Errorf("%s: the next number is %d, the last answer was %d: %v", s.id, last, s.answered.Load(), err)
		}
		records += s.answered.Load()
		requests += s.requests
	}
	t.Logf("%d records of %d streams, %d requests, %d leaders killed", records, streamsAtOnce, requests, kills)
	if requests < streamsAtOnce+kills {
		t.Errorf("only %d requests: no stream was cut", requests)
	}
	c.verify(o)
}
