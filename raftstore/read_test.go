package raftstore

import (
	"fmt"
	"testing"
)

// A commit changes the state, and not the leader.
func TestCommitsAreNoChangeOfTheLeader(t *testing.T) {
	nodes := testGroup(t, 1, nil)
	create(t, "first", nodes...) // its term has begun
	s := nodes[0].Store
	leader := s.LeaderChanged()
	for i := range 10 {
		state := s.StateChanged()
		create(t, fmt.Sprint("p", i), nodes...)
		select {
		case <-state:
		default:
			t.Fatalf("commit %d is no change of the state", i)
		}
	}
	select {
	case <-leader:
		t.Error("commits are a change of the leader")
	default:
	}
}
