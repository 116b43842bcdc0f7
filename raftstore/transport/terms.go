package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A connection for questions, from protocol level 3 on, asks a member for its current term, after the handshake of
// version 4 or higher:
//
//	caller: question u64
//	callee: question u64 ‖ the callee's current term u64
//
// The numbers are big endian. A question has the number of the one before it plus one. Its answer has the same number,
// so an answer always belongs to a question that was sent before it. The caller sends the next question when it has the
// answer. A callee that takes no part in the group closes the connection.
const (
	questionSize = 8
	answerSize   = 16
)

// termLink is the connection on which this master asks one member for its term.
type termLink struct {
	turn chan struct{} // holds a token while a question is in progress; its holder owns the fields below
	conn net.Conn      // nil if there is none
	last uint64        // number of the newest question
}

// AskTerm asks a member for its current term. The question is sent after the call. One question to a member is in
// progress at a time. The end of ctx ends the wait for the question before, but not a question that is in progress:
// that ends after timeout at the latest. AskTerm dials as [Stream.AnnounceTo] does.
func (s *Stream) AskTerm(ctx context.Context, member, hostPort string, timeout time.Duration) (uint64, error) {
	l := s.linkTo(member)
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	deadline := time.Now().Add(timeout)
	if l.conn != nil {
		term, err := l.ask(deadline)
		if err == nil || time.Now().After(deadline) {
			return term, err
		}
		// The member may have been restarted since the last question.
	}
	dialling, cancel := context.WithDeadline(s.ctx, deadline)
	defer cancel()
	c, err := s.dialAnywhere(dialling, member, hostPort, purposeTerms)
	if err != nil {
		return 0, fmt.Errorf("ask master %s for its term: %w", member, err)
	}
	l.conn = c
	return l.ask(deadline)
}

// linkTo returns the link to a member.
func (s *Stream) linkTo(member string) *termLink {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.questions[member]
	if l == nil {
		l = &termLink{turn: make(chan struct{}, 1)}
		s.questions[member] = l
	}
	return l
}

// ask sends a question and reads its answer. It closes the connection after an error. The caller has the turn.
func (l *termLink) ask(deadline time.Time) (term uint64, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, l.conn.Close())
			l.conn = nil
		}
	}()
	if err := l.conn.SetDeadline(deadline); err != nil {
		return 0, err
	}
	l.last++
	if _, err := l.conn.Write(binary.BigEndian.AppendUint64(nil, l.last)); err != nil {
		return 0, err
	}
	var answer [answerSize]byte
	if _, err := io.ReadFull(l.conn, answer[:]); err != nil {
		return 0, fmt.Errorf("no answer to the question for the term: %w", err)
	}
	if got := binary.BigEndian.Uint64(answer[:]); got != l.last {
		return 0, fmt.Errorf("question %d for the term got the answer to question %d", l.last, got)
	}
	return binary.BigEndian.Uint64(answer[questionSize:]), nil
}

// answerTerms answers the questions on a connection until it ends. The term is read after the question: a vote that
// this master gave before it in a higher term is visible in the answer.
func (s *Stream) answerTerms(c *conn) {
	defer func() { _ = c.Close() }() // the caller may have closed it
	for {
		var question [questionSize]byte
		if _, err := io.ReadFull(c, question[:]); err != nil {
			return
		}
		term, ok := s.cfg.Term()
		if !ok {
			return
		}
		if _, err := c.Write(binary.BigEndian.AppendUint64(question[:], term)); err != nil {
			return
		}
	}
}

// needsRaft reports whether connections for a purpose are refused before raft may have connections.
func needsRaft(purpose byte) bool { return purpose == purposeRaft || purpose == purposeTerms }
