package raftstore

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"
)

// TestCallEndedByStop checks that the outcome of a call is unknown if the store stops before raft has answered it. An
// error that also wraps ErrNotLeader would say that nothing was appended.
func TestCallEndedByStop(t *testing.T) {
	n := testGroup(t, 1, nil)[0]
	leaderOf(t, n)
	begun, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := n.callRaft(t.Context(), ErrUnknownOutcome, func(*raft.Raft) (any, error) {
			close(begun)
			<-release
			return nil, nil
		})
		ended <- err
	}()
	<-begun
	go func() { _ = n.Close() }()
	err := <-ended
	close(release)
	if !errors.Is(err, ErrUnknownOutcome) || errors.Is(err, ErrNotLeader) {
		t.Errorf("a call that the stop ended: %v", err)
	}
}
