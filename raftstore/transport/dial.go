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
	recentTime    = time.Second // for an address that may be out of date
	probeTime     = 500 * time.Millisecond
	firstRedial   = 10 * time.Millisecond
	slowestRedial = 100 * time.Millisecond
)

// Dial opens a connection to the member at an address. It retries until the timeout. If the timeout ends an attempt,
// the error also has that of the attempt before: an operator needs the reason of a refusal.
func (s *Stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	member, hostPort, err := SplitAddress(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	var last error // of the last attempt that ended before the deadline
	contact := s.contactOf(member)
	for pause := firstRedial; ; pause = min(2*pause, slowestRedial) {
		began := time.Now()
		c, err := s.dialAnywhere(ctx, member, hostPort, purposeRaft)
		if err == nil {
			contact.answered()
			return &outgoing{conn: c, contact: contact}, nil
		}
		contact.failed(began)
		if time.Now().Before(deadline) {
			last = err
		} else if last != nil {
			err = fmt.Errorf("%w (the attempt before it: %w)", err, last)
		}
		if time.Until(deadline) < pause || !s.pause(pause) {
			return nil, fmt.Errorf("master %s at %s: %w", member, hostPort, err)
		}
	}
}

// AnnounceTo announces this master's present start to a member. It dials the member's most recent address
// ([Stream.SetAddress]) and then the given one, host:port; if exact is set, only the given one. At protocol level 0
// no start is exchanged, and the error is nil if the member answers the handshake.
func (s *Stream) AnnounceTo(ctx context.Context, member, hostPort string, exact bool) error {
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

// SetAddress sets the most recent address of a member. It is dialled before the one in raft's configuration, which may
// be out of date; the handshake makes a wrong one harmless.
func (s *Stream) SetAddress(member, hostPort string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses[member] = hostPort
}

// addressOf returns the most recent address of a member, "" if none was set.
func (s *Stream) addressOf(member string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addresses[member]
}

// dialAnywhere dials the most recent address of a member, and then the given one.
func (s *Stream) dialAnywhere(ctx context.Context, member, hostPort string, purpose byte) (*conn, error) {
	var first error
	if recent := s.addressOf(member); recent != "" && recent != hostPort {
		quick, cancel := context.WithTimeout(ctx, recentTime)
		defer cancel()
		c, err := s.dialOnce(quick, member, recent, purpose)
		if err == nil {
			return c, nil
		}
		first = err
	}
	c, err := s.dialOnce(ctx, member, hostPort, purpose)
	if err != nil {
		return nil, errors.Join(first, err)
	}
	return c, nil
}

func (s *Stream) dialOnce(ctx context.Context, member, hostPort string, purpose byte) (*conn, error) {
	group, raftOpen := s.current()
	switch {
	case group == "":
		return nil, fmt.Errorf("%w: this master is new", errHandshake)
	case needsRaft(purpose) && !raftOpen:
		return nil, errStarting
	}
	c, err := s.connect(ctx, hostPort)
	if err != nil {
		return nil, err
	}
	err = s.call(c, hello{group: group, caller: s.cfg.Self, callee: member}, purpose)
	if err == nil {
		err = s.checkProven(c)
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		s.report(err)
		return nil, errors.Join(err, c.Close())
	}
	s.learnHost(c, member)
	return c, nil
}

// connect opens a connection, tracks it, and sets the deadline of the handshake.
func (s *Stream) connect(ctx context.Context, hostPort string) (c *conn, err error) {
	for _, secured := range s.waysTo(hostPort) {
		if c, err = s.connectBy(ctx, hostPort, secured); !errors.Is(err, errNoTLS) {
			break
		}
	}
	return c, err
}

// CheckTLS checks that a member answers at an address over TLS, and proves there what the handshake needs. The step
// does not matter.
func (s *Stream) CheckTLS(ctx context.Context, member, hostPort string) error {
	group, _ := s.current()
	if s.cfg.TLS == nil || group == "" {
		return errors.New("this master has no certificates, or no group")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	c, err := s.connectBy(ctx, hostPort, true)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	h := hello{group: group, caller: s.cfg.Self, callee: member}
	_, err = s.ask(c, h, max(s.versionFor(member), helloVersionStarts), purposeProbe)
	return err
}

// connectBy is connect with TLS or without.
func (s *Stream) connectBy(ctx context.Context, hostPort string, secured bool) (*conn, error) {
	dial := s.cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	plain, err := dial(ctx, "tcp", hostPort)
	if err != nil {
		return nil, err
	}
	c, err := s.track(plain, hostPort, secured)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(handshakeTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	err = c.SetDeadline(deadline)
	if err == nil {
		err = c.secure()
	}
	if err == nil {
		err = s.checkWay(c)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// call does the caller's part of a handshake.
func (s *Stream) call(c *conn, h hello, purpose byte) error {
	version := s.versionFor(h.callee)
	if version < helloVersionStarts {
		c.identify(h.callee, Start{}, Start{})
		return c.call(h)
	}
	err := s.callWithStart(c, h, version, purpose)
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

// isRunning reports whether a start of a member runs at one of the member's known addresses, other than the one that
// was dialled. The handshake calls it when another start of the member appears. Normally that is the same folder,
// started again at the same address.
func (s *Stream) isRunning(member string, x Start, dialled string) bool {
	for _, hostPort := range slices.Compact([]string{s.cfg.AddressOf(member), s.addressOf(member)}) {
		if hostPort != "" && hostPort != dialled && s.probe(member, hostPort).id == x.id {
			return true
		}
	}
	return false
}

// probe asks which start of a member runs at an address. It returns the zero Start if none answers. A member at a
// higher level refuses the version of this master's level, as happens while a raised level is applied: then the probe
// asks again in the newest version. It does not ask in the newest one first, because older members do not know it.
func (s *Stream) probe(member, hostPort string) Start {
	ctx, cancel := context.WithTimeout(s.ctx, probeTime+s.extraTime())
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
	group, _ := s.current()
	h := hello{group: group, caller: s.cfg.Self, callee: member}
	answer, err := s.ask(c, h, version, purposeProbe)
	return answer.callee, err
}
