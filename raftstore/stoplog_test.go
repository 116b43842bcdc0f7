package raftstore

import (
	"bytes"
	"context"
	"errors"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// ownEnd matches what raft logs only about a connection, a listener or a call that its own master has ended.
var ownEnd = regexp.MustCompile(`use of closed network connection|failed to accept connection|[Ss]hut ?down|canceled`)

// logBuffer keeps the log of a master.
type logBuffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (b *logBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(line)
}

// check checks that raft's lines about the end of its own master are of level debug. It returns how many there are.
func (b *logBuffer) check(t *testing.T) (lines int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.text.String()) {
		if !strings.Contains(line, ".raft: ") || !ownEnd.MatchString(line) {
			continue
		}
		lines++
		if !strings.Contains(line, "[DEBUG]") {
			t.Errorf("a stopped master logged %s", line)
		}
	}
	return lines
}

// heldConn is a connection whose answers can be held back. A read that is held ends when the connection is closed.
type heldConn struct {
	net.Conn
	held    *atomic.Bool
	waiting chan<- struct{} // receives when a read is held
	closed  chan struct{}
	once    sync.Once
}

func (c *heldConn) Read(b []byte) (int, error) {
	if c.held.Load() {
		wake(c.waiting)
		<-c.closed
	}
	return c.Conn.Read(b)
}

func (c *heldConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestStopLogsNoErrors stops groups, both at rest and with calls of raft in progress, and checks that what raft then
// logs about its own end is no error.
func TestStopLogsNoErrors(t *testing.T) {
	t.Parallel()
	rounds := 20
	if testing.Short() {
		rounds = 1
	}
	lines := 0
	for round := range rounds {
		var held atomic.Bool
		waiting := make(chan struct{}, 1)
		var logs []*logBuffer
		nodes := testGroup(t, 3, func(c *Config) {
			logs = append(logs, &logBuffer{})
			c.Timeout = min(c.Timeout, 600*time.Millisecond) // one leadership is enough, also a short one
			c.Logger = hclog.New(&hclog.LoggerOptions{Name: "master", Level: hclog.Debug, Output: logs[len(logs)-1]})
			c.dial = func(ctx context.Context, network, hostPort string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, hostPort)
				if err != nil {
					return nil, err
				}
				return &heldConn{Conn: conn, held: &held, waiting: waiting, closed: make(chan struct{})}, nil
			}
		})
		leaderOf(t, nodes...)
		if held.Store(round%2 == 0); round%2 == 0 {
			select {
			case <-waiting:
			case <-patience(t).Done():
				t.Fatal("no call of raft is in progress")
			}
		}
		var stops sync.WaitGroup
		for _, n := range nodes {
			stops.Go(n.stop)
		}
		stops.Wait()
		for _, log := range logs {
			lines += log.check(t)
		}
	}
	if lines == 0 {
		t.Error("no master was stopped while calls of raft were in progress")
	}
}

// TestFailureDuringStopIsShown checks that raft's errors are shown when the data folder fails during a stop.
func TestFailureDuringStopIsShown(t *testing.T) {
	s := openStore(t, testConfig(t, t.TempDir()))
	if s.ending() {
		t.Error("the store is being closed before Close")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !s.ending() {
		t.Error("the store is not being closed after Close")
	}
	s.fail.report(errors.New("test"))
	if s.ending() {
		t.Error("the errors are hidden after a failure")
	}
}
