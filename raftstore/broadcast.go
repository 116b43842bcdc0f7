package raftstore

import "sync"

// broadcast wakes all goroutines that wait for the next change of one kind.
type broadcast struct {
	mu   sync.Mutex
	next chan struct{} // nil until wait is called after the last change
}

// wait returns a channel that is closed at the next change.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

// notify closes the channel that wait has returned.
func (b *broadcast) notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}
