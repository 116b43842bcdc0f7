package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

const (
	seenAtTime    = time.Second // for an address that may be out of date
	probeTime     = 500 * time.Millisecond
	firstRedial   = 10 * time.Millisecond
	slowestRedial = 100 * time.Millisecond
)

// Dial opens a connection to the member at an address. It retries while there is time. When the time ends during an
// attempt, the error also says why the attempt before it failed: a refusal is the reason that an operator needs.
func (s *Stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	member, hostPort, err := SplitAddress(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	var before error // of the last attempt that ended before the deadline
	for pause := firstRedial; ; pause = min(2*pause, slowestRedial) {
		c, err := s.dialAnywhere(ctx, member, hostPort, purposeRaft)
		s.setReachable(member, err == nil)
		if err == nil {
			return c, nil
		}
		if time.Now().Before(deadline) {
			before = err
		} else if before != nil {
			err = fmt.Errorf("%w (the attempt before it: %w)", err, before)
		}
		if time.Until(deadline) < pause || !s.pause(pause) {
			return nil, fmt.Errorf("master %s at %s: %w", member, hostPort, err)
		}
	}
}

// Tell announces this master's present start to a member, which is dialled at the address where it was seen last and
// at the given one, host:port. Where exact is set, only the given one is dialled. At protocol level 0 no start is
// exchanged, and Tell reports whether the member answers the handshake.
func (s *Stream) Tell(ctx context.Context, member, hostPort string, exact bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	dial := s.dialAnywhere
	if exact {
		dial = s.dialOnce
	}
	c, err := dial(ctx, member, hostPort, purposeAnnounce)
	if err == nil {
		_ = c.Close() // the handshake was its only purpose
	}
	return err
}

// SeenAt records an address at which a member was seen. It is dialled before the one in raft's configuration, which may
// be out of date; the handshake makes a wrong one harmless.
func (s *Stream) SeenAt(member, hostPort string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seenAt[member] = hostPort
}

// Unreachable reports whether raft's last dial to a member failed.
func (s *Stream) Unreachable(member string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unreachable[member]
}

func (s *Stream) setReachable(member string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ok {
		delete(s.unreachable, member)
	} else {
		s.unreachable[member] = true
	}
}

// dialAnywhere dials the address at which a member was seen last, and then the given one.
func (s *Stream) dialAnywhere(ctx context.Context, member, hostPort string, purpose byte) (net.Conn, error) {
	s.mu.Lock()
	seenAt := s.seenAt[member]
	s.mu.Unlock()
	if seenAt == "" || seenAt == hostPort {
		return s.dialOnce(ctx, member, hostPort, purpose)
	}
	quick, cancel := context.WithTimeout(ctx, seenAtTime)
	c, err := s.dialOnce(quick, member, seenAt, purpose)
	cancel()
	if err == nil {
		return c, nil
	}
	c, other := s.dialOnce(ctx, member, hostPort, purpose)
	if other != nil {
		return nil, errors.Join(err, other)
	}
	return c, nil
}

func (s *Stream) dialOnce(ctx context.Context, member, hostPort string, purpose byte) (net.Conn, error) {
	group, forRaft := s.current()
	switch {
	case group == "":
		return nil, fmt.Errorf("%w: this master is new", errHandshake)
	case purpose == purposeRaft && !forRaft:
		return nil, errStarting
	}
	c, err := s.connect(ctx, hostPort)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(handshakeTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	err = c.SetDeadline(deadline)
	if err == nil {
		err = s.call(c, hello{group: group, caller: s.cfg.Self, callee: member}, hostPort, purpose)
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		s.report(err)
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// connect opens a connection and tracks it.
func (s *Stream) connect(ctx context.Context, hostPort string) (*conn, error) {
	var dialer net.Dialer
	plain, err := dialer.DialContext(ctx, "tcp", hostPort)
	if err != nil {
		return nil, err
	}
	return s.track(plain)
}

// call does the caller's part of a handshake.
func (s *Stream) call(c *conn, h hello, hostPort string, purpose byte) error {
	version := s.versionFor(h.callee)
	if version < helloVersionStarts {
		c.identify(h.callee, Start{}, Start{})
		return s.cfg.Key.call(c, h)
	}
	err := s.cfg.Key.callWithStart(c, h, version, purpose, s.startCheck(c, h.callee, hostPort))
	if err == nil {
		s.closeReplaced(c, version)
	}
	return err
}

// versionFor returns the version of the handshake for a callee: that of the group's level, or a higher one that the
// callee has used.
func (s *Stream) versionFor(callee string) byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(byte(s.cfg.Level())+helloVersion, s.versions[callee])
}

// startCheck returns what the handshake of a connection needs. dialled is the address that the connection was opened
// to, "" where the other side opened it.
func (s *Stream) startCheck(c *conn, member, dialled string) startCheck {
	return startCheck{
		Starts:     s.cfg.Starts,
		runs:       func(previous Start) bool { return s.runs(member, previous, dialled) },
		identified: func(previous, opener Start) { c.identify(member, previous, opener) },
	}
}

// runs reports whether a start of a member runs at one of the member's known addresses, other than the one that was
// dialled. It is asked when another start of the member appears. Normally that is the same folder, started again at the
// same address.
func (s *Stream) runs(member string, x Start, dialled string) bool {
	s.mu.Lock()
	seenAt := s.seenAt[member]
	s.mu.Unlock()
	for _, hostPort := range slices.Compact([]string{s.cfg.AddressOf(member), seenAt}) {
		if hostPort != "" && hostPort != dialled && s.probe(member, hostPort).id == x.id {
			return true
		}
	}
	return false
}

// probe asks which start of a member runs at an address. It returns the zero Start where none answers. A member at a
// higher level refuses the version of this master's level, as happens while a raised level is applied: then the probe
// asks again in the newest version. It does not ask in the newest one first, because older members do not know it.
func (s *Stream) probe(member, hostPort string) Start {
	ctx, cancel := context.WithTimeout(s.ctx, probeTime)
	defer cancel()
	version := max(s.versionFor(member), helloVersionStarts)
	for _, v := range slices.Compact([]byte{version, newestHello}) {
		if x, err := s.probeOnce(ctx, member, hostPort, v); err == nil {
			return x
		}
	}
	return Start{}
}

// probeOnce is one attempt of probe, in one version of the handshake.
func (s *Stream) probeOnce(ctx context.Context, member, hostPort string, version byte) (Start, error) {
	c, err := s.connect(ctx, hostPort)
	if err != nil {
		return Start{}, err
	}
	defer func() { _ = c.Close() }()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return Start{}, err
	}
	group, _ := s.current()
	h := hello{group: group, caller: s.cfg.Self, callee: member}
	answer, err := s.cfg.Key.ask(c, h, version, purposeProbe, s.cfg.Starts)
	return answer.callee, err
}
