package suite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/chainstore/chainstore/internal/devcluster"
)

// stopTime is how long a child may take to end after SIGTERM.
const stopTime = 5 * time.Second

// child is a process of a ceiling or a storage node. It ends with this process: the kernel kills it when the thread
// that started it ends. So its starter must keep the thread locked until the child has been stopped.
type child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// startChild starts a program whose output goes to a file.
func startChild(log string, program string, args ...string) (*child, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the child has its own descriptor
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = file, file
	// A process group of its own: Ctrl-C on the terminal reaches only this process, which then stops the child.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.err = cmd.Wait()
	}()
	return c, nil
}

// stop ends the child, by SIGKILL if it does not end in time. Its exit status is ignored.
func (c *child) stop() error {
	err := c.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(stopTime)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
	}
	err = errors.Join(err, c.cmd.Process.Kill())
	<-c.done
	return err
}

func stopAll(children []*child) error {
	var errs []error
	for _, c := range children {
		errs = append(errs, c.stop())
	}
	return errors.Join(errs...)
}

// await polls ready until it returns true. It fails if the child ends first or the time is over.
func (c *child) await(ctx context.Context, log string, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-c.done:
			return fmt.Errorf("%s ended before it was ready: %v: %s", c.cmd.Path, c.err, devcluster.LastLine(log))
		case <-ctx.Done():
			return fmt.Errorf("%s did not get ready: %w: %s", c.cmd.Path, ctx.Err(), devcluster.LastLine(log))
		}
	}
	return nil
}
