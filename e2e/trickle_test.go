package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/devcluster"
)

// trickle is a TCP proxy in front of a role. While it is slow, the role's responses arrive a few bytes at a time.
type trickle struct {
	listener net.Listener
	target   string // host:port
	slow     atomic.Bool
	running  sync.WaitGroup
	mu       sync.Mutex // guards conns
	conns    []net.Conn
	ending   chan struct{}
}

// Responses arrive by trickleBytes each trickleEvery.
const (
	trickleBytes = 2
	trickleEvery = 100 * time.Millisecond
)

// newTrickle starts a proxy that ends with the test.
func newTrickle(t *testing.T, target string) *trickle {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &trickle{listener: listener, target: target, ending: make(chan struct{})}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		close(p.ending)
		_ = listener.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

func (p *trickle) accept() {
	for {
		from, err := p.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = from.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, from, to)
		p.mu.Unlock()
		p.running.Go(func() {
			_, _ = io.Copy(to, from)
			_ = to.Close()
		})
		p.running.Go(func() {
			p.answer(from, to)
			_ = from.Close()
		})
	}
}

// answer copies responses.
func (p *trickle) answer(to io.Writer, from io.Reader) {
	tick := time.NewTicker(trickleEvery)
	defer tick.Stop()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		for rest := buf[:n]; len(rest) > 0; {
			part := len(rest)
			if p.slow.Load() {
				part = min(part, trickleBytes)
				select {
				case <-tick.C:
				case <-p.ending:
					return
				}
			}
			if _, err := to.Write(rest[:part]); err != nil {
				return
			}
			rest = rest[part:]
		}
		if err != nil {
			return
		}
	}
}

// TestResponsesThatTrickle makes the responses of one storage node arrive two bytes at a time. The other nodes must be
// checked, blocks stored, checkpoints published, and records read, as if the node were down. It takes part again when
// its responses are fast.
func TestResponsesThatTrickle(t *testing.T) {
	c, topology := prepared(t, checkOften)
	c.expectDamage = true // a node that lags is invalid for a while
	const name = "storage-2"
	p := newTrickle(t, roleOf(topology, name).HTTP)
	topology.Adjust = func(_ int, r *devcluster.Role) {
		if r.Name == name {
			r.Advertise = p.listener.Addr().String()
		}
	}
	c.begin(topology)
	o := newOracle()
	l := c.startLoad(o)
	l.more(some)
	c.awaitProgress("before the responses are slow")
	slow := roleOf(topology, name).URL()
	for round := range 3 {
		p.slow.Store(true)
		before, err := progress{}, error(nil)
		c.await("a status", func() string {
			if before, err = c.tryProgress(); err != nil {
				return err.Error()
			}
			return ""
		})
		c.await("progress without the slow node", func() string {
			now, err := c.tryProgress()
			if err != nil {
				return err.Error()
			}
			var stalled []string
			for _, text := range now.stalled(before) {
				other := strings.HasPrefix(text, "end of the last check of ") && !strings.Contains(text, slow)
				if other || strings.HasPrefix(text, "stored blocks") || strings.HasPrefix(text, "leaves of the") {
					stalled = append(stalled, text)
				}
			}
			return strings.Join(stalled, "; ")
		})
		l.more(some)
		p.slow.Store(false)
		c.awaitProgress(fmt.Sprint("after the responses were slow, round ", round))
	}
	l.end()
	c.verify(o)
}
