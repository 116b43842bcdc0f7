package masterfsm

import (
	"fmt"

	"github.com/chainstore/chainstore/wire"
)

// SetTLS changes the step of the move from plain text to TLS. It is refused with [ErrStale] where the table is not at
// From, and with [ErrBadCommand] for a change that is none of tlsSteps, or while a worker runs a program that does not
// know the steps. The URLs of all nodes get the scheme of the step. Known from protocol level 7 on.
type SetTLS struct {
	From wire.TLSStep `json:"from"`
	To   wire.TLSStep `json:"to"`
	Time uint64       `json:"time"`
}

// tlsSteps are the changes that are allowed. [wire.TLSRequire] has none: an attacker with the token of an administrator
// must not be able to bring plain text back.
var tlsSteps = map[SetTLS]bool{
	{From: wire.TLSByFlags, To: wire.TLSAccept}:  true,
	{From: wire.TLSByFlags, To: wire.TLSRequire}: true, // a group whose nodes all have certificates
	{From: wire.TLSAccept, To: wire.TLSPrefer}:   true,
	{From: wire.TLSPrefer, To: wire.TLSAccept}:   true,
	{From: wire.TLSPrefer, To: wire.TLSRequire}:  true,
}

func (c *SetTLS) apply(s *State) (any, error) {
	switch {
	case s.level < LevelTLSSteps:
		return nil, fmt.Errorf("%w: the step of TLS is changed from protocol level %d on, the group is at %d",
			ErrBadCommand, LevelTLSSteps, s.level)
	case c.From != s.tls.Step:
		return nil, fmt.Errorf("%w: the step of TLS is %s now", ErrStale, s.tls.Step.Name())
	case !tlsSteps[SetTLS{From: c.From, To: c.To}]:
		return nil, fmt.Errorf("%w: the step of TLS cannot change from %s to %s: the order is accept, prefer, "+
			"require, one at a time; prefer may go back to accept, and nothing follows require", ErrBadCommand,
			c.From.Name(), c.To.Name())
	}
	if id := s.workerBelow(LevelTLSSteps); id != "" {
		return nil, fmt.Errorf("%w: worker %s runs a version of ChainStore that does not know the steps of TLS: start "+
			"it with the version that the masters have", ErrBadCommand, id)
	}
	s.tick(c.Time)
	s.tls = wire.TLSState{Step: c.To, Change: s.tls.Change + 1}
	s.useSchemes()
	s.recordEvent(Event{Kind: EventSetting, Cause: s.cause(wire.CodeSettingChanged,
		wire.Args{"setting": "tls", "from": c.From.Name(), "to": c.To.Name()})})
	return nil, nil
}

// workerBelow returns the id of a worker whose program does not know a protocol level, "" if all do.
func (s *State) workerBelow(level uint64) string {
	for i := range s.storages {
		if s.storages[i].Level < level {
			return s.storages[i].ID
		}
	}
	for i := range s.miners {
		if s.miners[i].Level < level {
			return s.miners[i].ID
		}
	}
	return ""
}

// useSchemes gives the URLs of all nodes the scheme of the step. It changes no registration: a node that is called in
// another way is the same node.
func (s *State) useSchemes() {
	masters := make([]Master, len(s.masters)) // s.masters is never changed in place
	for i, m := range s.masters {
		m.URL = s.tls.Step.URL(m.URL)
		masters[i] = m
	}
	s.masters = masters
	for i := range s.storages {
		s.storages[i].URL = s.tls.Step.URL(s.storages[i].URL)
	}
	for i := range s.miners {
		s.miners[i].URL = s.tls.Step.URL(s.miners[i].URL)
	}
	s.term.URL = s.tls.Step.URL(s.term.URL)
}

// TLS is the step of the move from plain text to TLS.
func (s *State) TLS() wire.TLSState { return s.tls }
