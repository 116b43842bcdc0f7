package storagenode

import (
	"context"
	"sync"
	"sync/atomic"
)

// jobs are what the leader ordered: a check, a transfer to another node, a repair. Of each there is the one under way, or the last.
type jobs struct {
	mu      sync.Mutex // guards all below; a job's goroutine never takes it
	closed  bool
	check   *checkJob
	send    *sendJob
	receipt *receipt

	open atomic.Bool // a receipt is
}

// job is a goroutine that can be stopped.
type job struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

func startJob(run func(context.Context)) job {
	ctx, cancel := context.WithCancel(context.Background())
	j := job{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(j.ended)
		defer cancel()
		run(ctx)
	}()
	return j
}

func (j job) stop() {
	j.cancel()
	<-j.ended
}

// receiving reports whether a repair is open.
func (j *jobs) receiving() bool { return j.open.Load() }

// stop ends check and transfer, and forgets them, so that an order for them starts them again; for good when the node closes.
func (j *jobs) stop(closing bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = j.closed || closing
	if j.check != nil {
		j.check.stop()
		j.check = nil
	}
	if j.send != nil {
		j.send.stop()
		j.send = nil
	}
}
