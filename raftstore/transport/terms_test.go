package transport

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
)

// termStream returns a stream at the level of questions, which answers them with term.
func termStream(t *testing.T, self string, term func() (uint64, bool)) *Stream {
	t.Helper()
	s := openStream(t, self, "g", testToken, masterfsm.LevelTerms, func(err error) { t.Error(err) })
	s.mu.Lock() // which each handshake takes before it reads Term
	defer s.mu.Unlock()
	s.cfg.Term = term
	return s
}

func askTerm(t *testing.T, from, to *Stream) (uint64, error) {
	t.Helper()
	return from.AskTerm(t.Context(), to.cfg.Self, to.cfg.Advertise, 20*time.Second)
}

// Questions get the callee's term at their time, on one connection, and on a new one when that has been closed.
func TestAskTerm(t *testing.T) {
	var term atomic.Uint64
	a := termStream(t, "a", nil)
	b := termStream(t, "b", func() (uint64, bool) { return term.Add(1), true })
	var kept net.Conn
	for want := uint64(1); want < 100; want++ {
		got, err := askTerm(t, a, b)
		if err != nil || got != want {
			t.Fatalf("term %d, %v, want %d", got, err, want)
		}
		l := a.linkTo("b")
		switch {
		case want == 50:
			if err := l.conn.Close(); err != nil { // as when the other side restarts
				t.Fatal(err)
			}
			kept = nil
		case kept == nil:
			kept = l.conn
		case kept != l.conn:
			t.Fatalf("question %d has a connection of its own", want)
		}
	}
}

// A callee that takes no part in the group, or whose raft has not started, does not answer.
func TestAskTermOfNoParticipant(t *testing.T) {
	var takesPart atomic.Bool
	a, b := termStream(t, "a", nil), termStream(t, "b", func() (uint64, bool) { return 9, takesPart.Load() })
	if term, err := askTerm(t, a, b); err == nil {
		t.Errorf("it answers %d", term)
	}
	takesPart.Store(true)
	b.mu.Lock()
	b.raftOpen = false
	b.mu.Unlock()
	if term, err := askTerm(t, a, b); err == nil {
		t.Errorf("before its raft has started it answers %d", term)
	}
	b.Open("g")
	if term, err := askTerm(t, a, b); err != nil || term != 9 {
		t.Errorf("term %d, %v", term, err)
	}
}

// A silent callee costs a question its timeout, and the questions behind it only the time of their own context. A late
// answer never reaches a later question.
func TestAskTermOfSilentCallee(t *testing.T) {
	var silent atomic.Bool
	release := make(chan struct{})
	a := termStream(t, "a", nil)
	b := termStream(t, "b", func() (uint64, bool) {
		if silent.Load() {
			<-release
			return 1, true
		}
		return 2, true
	})
	if _, err := askTerm(t, a, b); err != nil {
		t.Fatal(err)
	}
	silent.Store(true)
	first := make(chan error, 1)
	go func() {
		_, err := a.AskTerm(t.Context(), "b", b.cfg.Advertise, 200*time.Millisecond)
		first <- err
	}()
	for len(a.linkTo("b").turn) == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if term, err := a.AskTerm(ctx, "b", b.cfg.Advertise, time.Hour); err == nil {
		t.Errorf("a question whose context has ended: term %d", term)
	}
	if err := <-first; err == nil {
		t.Error("a silent member answers")
	}
	silent.Store(false)
	close(release)
	if term, err := askTerm(t, a, b); err != nil || term != 2 {
		t.Errorf("the question after it: term %d, %v", term, err)
	}
}

// The answer to another question is an error, and ends the connection.
func TestAskTermChecksTheQuestion(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		var question [questionSize]byte
		_, _ = io.ReadFull(far, question[:])
		old := binary.BigEndian.Uint64(question[:]) - 1
		_, _ = far.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, old), 3))
	}()
	l := &termLink{conn: near, last: 41}
	if term, err := l.ask(time.Now().Add(time.Minute)); err == nil || !strings.Contains(err.Error(), "question 42") {
		t.Errorf("term %d, %v", term, err)
	}
	if _, err := near.Write([]byte{0}); l.conn != nil || err == nil {
		t.Errorf("the connection is kept: %v", err)
	}
}

// Connections for questions stay open. They must not take the places of handshakes.
func TestQuestionsTakeNoHandshakes(t *testing.T) {
	a, b := termStream(t, "a", nil), termStream(t, "b", func() (uint64, bool) { return 1, true })
	for range maxFromMembers + 1 {
		conn, err := a.dialOnce(patience(t), "b", b.cfg.Advertise, purposeTerms)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	connectOnce(t, a, b)
}
