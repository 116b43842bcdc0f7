package transport

import (
	"sync"
	"time"
)

// contact says whether raft reaches a member. Raft has several connections to it, and dials only when it needs one
// more: an attempt that fails while another connection works says nothing. So a member is unreachable when the last
// failed attempt began after its last answer.
type contact struct {
	mu     sync.Mutex
	answer time.Time // of the last answer to a dial or to a call
	began  time.Time // of the last attempt to dial that failed
}

// answered notes an answer of the member.
func (c *contact) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = time.Now()
}

// failed notes a failed attempt to dial.
func (c *contact) failed(began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began = began
}

func (c *contact) lost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.began.After(c.answer)
}

// contactOf returns what is known of a member.
func (s *Stream) contactOf(member string) *contact {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.contacts[member]
	if c == nil {
		c = &contact{}
		s.contacts[member] = c
	}
	return c
}

// Unreachable reports whether raft does not reach a member: it has failed to dial it since its last answer.
func (s *Stream) Unreachable(member string) bool { return s.contactOf(member).lost() }
