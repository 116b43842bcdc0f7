package storagenode

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"
)

// job is a goroutine that can be stopped.
type job struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

// startJob starts a job. It cancels the previous one, which may be nil, and run begins when that has ended.
func startJob(previous *job, run func(context.Context)) *job {
	if previous != nil {
		previous.cancel()
	}
	ctx, cancel := context.WithCancel(context.Background())
	j := &job{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(j.ended)
		defer cancel()
		previous.stop()
		if ctx.Err() == nil { // else it was replaced before it began
			run(ctx)
		}
	}()
	return j
}

// stop cancels the job and waits until it has ended.
func (j *job) stop() {
	if j != nil {
		j.cancel()
		<-j.ended
	}
}

// stopJobs stops the check and the transfer that run, and waits for them. It forgets them, so that an order starts them
// again; with closing, no more are started. life is held exclusively, mu is not held: jobs take it.
func (n *Node) stopJobs(closing bool) {
	n.jobs.Lock()
	check, send := n.check, n.send
	n.check, n.send = nil, nil
	n.closing = n.closing || closing
	n.jobs.Unlock()
	if check != nil {
		check.job.stop()
	}
	if send != nil {
		send.job.stop()
	}
}

// findOrStart returns the last job if it answers the order, and replaces it otherwise. It waits for locks that are held
// while a disk is written only if it starts one. It starts none after the end of the context. The error wraps
// ErrFailed, or is that of start or the cause of the context's end.
func findOrStart[J any](
	ctx context.Context, n *Node, last **J, answers func(*J) bool, start func() (*J, error),
) (*J, error) {
	n.jobs.Lock()
	found := *last
	done := found != nil && answers(found)
	n.jobs.Unlock()
	if done {
		return found, nil
	}
	n.life.RLock()
	defer n.life.RUnlock()
	if err := n.mayStart(ctx); err != nil {
		return nil, err
	}
	n.jobs.Lock()
	defer n.jobs.Unlock()
	if *last != nil && answers(*last) {
		return *last, nil // it was started meanwhile
	}
	started, err := start()
	if err == nil {
		*last = started
	}
	return started, err
}

// mayStart returns why no job and no repair is started for a caller, nil if one may be. life is held.
func (n *Node) mayStart(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.jobs.Lock()
	defer n.jobs.Unlock()
	if n.closing || n.failure != nil {
		return errors.Join(ErrFailed, n.failure)
	}
	return context.Cause(ctx)
}

// onceLogger logs an error unless it logged the same one last.
type onceLogger struct{ last string }

func (o *onceLogger) log(log hclog.Logger, what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != o.last {
		log.Warn(what, "error", err)
	}
	o.last = text
}
