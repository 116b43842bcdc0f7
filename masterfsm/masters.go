package masterfsm

import (
	"fmt"
	"slices"
	"strings"
)

// Master is a master of the group as the table has it. Raft's configuration defines which masters vote.
type Master struct {
	ID    string `json:"id"`    // member id
	URL   string `json:"url"`   // "" while another has taken it over
	Raft  string `json:"raft"`  // host:port, "" while another has taken it over
	Since uint64 `json:"since"` // when it was admitted, unix milliseconds
}

// Limits of the table of masters.
const (
	maxMasters        = 15
	maxRemovedMasters = 1024 // the oldest is forgotten then: its own folder still says that it was removed
)

// AdmitMaster enters a master, or a known one's new addresses. It is refused with [ErrMasterRemoved] where it was
// removed. If another master has one of its addresses, it is refused with [ErrBadCommand] unless Take is set. The other
// master then stays in the table without that address until it announces its new ones.
type AdmitMaster struct {
	ID   string `json:"id"`
	URL  string `json:"url"`
	Raft string `json:"raft"`
	Take bool   `json:"take,omitempty"` // a member that has moved, perhaps to where another was before it moved too
	Time uint64 `json:"time"`
}

// RemoveMaster removes a master. Its id is never admitted again, and what it submits is refused. Raft's configuration
// says whether there is such a member.
type RemoveMaster struct {
	ID   string `json:"id"`
	Time uint64 `json:"time"`
}

func (c *AdmitMaster) apply(s *State) (any, error) {
	switch {
	case c.ID == "" || len(c.ID) > 255 || strings.Contains(c.ID, "@"):
		return nil, fmt.Errorf("%w: %q is no id of a master", ErrBadCommand, c.ID)
	case c.URL == "" || len(c.URL) > maxText || len(c.Raft) > maxText || !strings.Contains(c.Raft, ":"):
		return nil, fmt.Errorf("%w: a master needs a URL and a raft address host:port, of at most %d bytes each",
			ErrBadCommand, maxText)
	case s.MasterRemoved(c.ID):
		return nil, fmt.Errorf("%w: %s", ErrMasterRemoved, c.ID)
	}
	m := Master{ID: c.ID, URL: s.tls.Step.URL(c.URL), Raft: c.Raft}
	var others []Master
	for _, o := range s.masters {
		switch {
		case o.ID == m.ID:
			m.Since = o.Since
			continue
		case o.URL != m.URL && o.Raft != m.Raft:
		case c.Take:
			o = o.without(m)
		default:
			return nil, fmt.Errorf("%w: master %s has the URL %s and the raft address %s", ErrBadCommand, o.ID, o.URL,
				o.Raft)
		}
		others = append(others, o)
	}
	if len(others) >= maxMasters {
		return nil, fmt.Errorf("%w: there are %d masters already, more do not help; remove one first", ErrBadCommand,
			maxMasters)
	}
	s.tick(c.Time)
	if m.Since == 0 {
		m.Since = s.now
	}
	s.masters = put(others, m, func(m *Master) string { return m.ID })
	return nil, nil
}

// without is the master without the addresses that another has.
func (m Master) without(other Master) Master {
	if m.URL == other.URL {
		m.URL = ""
	}
	if m.Raft == other.Raft {
		m.Raft = ""
	}
	return m
}

func (c *RemoveMaster) apply(s *State) (any, error) {
	if c.ID == "" || len(c.ID) > 255 {
		return nil, fmt.Errorf("%w: %q is no id of a master", ErrBadCommand, c.ID)
	}
	s.tick(c.Time)
	s.masters = slices.DeleteFunc(slices.Clone(s.masters), func(m Master) bool { return m.ID == c.ID })
	delete(s.members, c.ID)
	if s.MasterRemoved(c.ID) {
		return nil, nil
	}
	s.removedMasters = appendBounded(s.removedMasters, c.ID, maxRemovedMasters)
	return nil, nil
}

// MasterRemoved reports whether a master was removed.
func (s *State) MasterRemoved(id string) bool { return slices.Contains(s.removedMasters, id) }
