package transport

import (
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	helloTime       = 500 * time.Millisecond // for the hello; a caller sends it at once, or when TLS is ready
	handshakeTime   = 3 * time.Second        // for the whole handshake
	warningInterval = 10 * time.Second
)

// errStarting: this master has not heard from its peers yet.
var errStarting = fmt.Errorf("%w: this master is still starting", errHandshake)

// Accept returns the next connection that a member of the group opened to this one for raft.
func (s *Stream) Accept() (net.Conn, error) {
	select {
	case c := <-s.ready:
		return c, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// acceptAll accepts connections and starts a goroutine for the handshake of each.
func (s *Stream) acceptAll() {
	for {
		plain, err := s.cfg.Listener.Accept()
		if err != nil {
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			s.warn("cannot accept a raft connection", "error", err)
			if !s.pause(slowestRedial) {
				return
			}
			continue
		}
		c, err := s.track(plain, "", false)
		if err != nil {
			return
		}
		host := hostOf(c.RemoteAddr().String())
		isMember := s.isMembers(host)
		if isMember && !s.pause(s.gate.untilRoom(time.Now())) {
			s.drop(c, net.ErrClosed)
			return
		}
		if replaced := s.gate.enter(c, host, isMember, time.Now()); replaced != nil {
			s.drop(replaced, errTooMany)
		}
		s.tasks.Go(func() {
			defer s.gate.leave(c)
			s.serve(c)
		})
	}
}

// serve does the callee's part of a handshake and hands the connection to raft, or to a goroutine that answers the
// questions on it.
func (s *Stream) serve(c *conn) {
	var purpose byte
	began := time.Now()
	err := c.SetDeadline(began.Add(helloTime + s.extraTime()))
	if err == nil {
		err = c.secure()
	}
	if err == nil {
		err = s.checkWay(c)
	}
	if err == nil && c.isSecured() {
		s.gate.greeted(c) // its certificate is that of a master
	}
	if err == nil {
		purpose, err = s.answer(c, began)
	}
	if err == nil && purpose != purposeProbe {
		err = s.checkProven(c)
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	switch {
	case err != nil:
		s.report(err)
		s.drop(c, err)
		return
	case purpose == purposeTerms:
		s.tasks.Go(func() { s.answerTerms(c) })
		return
	case purpose != purposeRaft:
		_ = c.Close() // the handshake was its only purpose
		return
	}
	c.takeRequests()
	select {
	case s.ready <- c:
	case <-s.ctx.Done():
		s.drop(c, net.ErrClosed)
	}
}

// answer does the callee's part of a handshake, in the version that the caller speaks. The caller has the whole time of
// a handshake only after a hello for this member of this group.
func (s *Stream) answer(c *conn, began time.Time) (purpose byte, err error) {
	group, raftOpen := s.current()
	h, transcript, err := readHello(c)
	if errors.Is(err, errCallerTLS) {
		c.answerTLS()
	}
	if err == nil {
		err = h.check(group, s.cfg.Self)
	}
	if err == nil {
		s.gate.greeted(c)
		err = c.SetDeadline(began.Add(handshakeTime + s.extraTime()))
	}
	if err != nil {
		return 0, err
	}
	switch version := transcript[len(helloMagic)]; {
	case uint64(version-helloVersion) < s.cfg.Level():
		return 0, fmt.Errorf("%w: master %s runs an older version of ChainStore, which knows protocol level %d; "+
			"the group is at level %d", errHandshake, h.caller, version-helloVersion, s.cfg.Level())
	case version >= helloVersionStarts:
		purpose, err = s.answerWithStart(c, h, transcript)
		if err != nil || purpose == purposeProbe {
			return purpose, err
		}
		s.closeReplaced(c, version)
		if needsRaft(purpose) && !raftOpen {
			return 0, errStarting
		}
		return purpose, nil
	case !raftOpen:
		return 0, errStarting
	}
	c.identify(h.caller, Start{}, Start{})
	if err := c.answer(h, transcript); err != nil {
		return 0, err
	}
	s.learnHost(c, h.caller)
	return purposeRaft, nil
}

// drop closes a connection that was refused. It logs a warning at most once in warningInterval. It does nothing more if
// this side has closed the connection already.
func (s *Stream) drop(c *conn, why error) {
	closeErr := c.Close()
	if errors.Is(why, net.ErrClosed) {
		return
	}
	s.warn("raft connection dropped", "from", c.RemoteAddr().String(), "error", errors.Join(why, closeErr))
}

// warn logs a warning at most once in warningInterval, and none before the stream serves a group.
func (s *Stream) warn(text string, args ...any) {
	s.mu.Lock()
	warn := s.group != "" && s.ctx.Err() == nil && time.Since(s.warned) >= warningInterval
	if warn {
		s.warned = time.Now()
	}
	s.mu.Unlock()
	if warn {
		s.cfg.Log.Warn(text, args...)
	}
}
