package raftstore

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/chainstore/chainstore/internal/durable"
)

// failure is the first fatal error of a store.
type failure struct {
	once   sync.Once
	failed chan error    // receives the error, once
	dead   chan struct{} // closed after err is set
	err    error

	mark *durable.SyncMark // nil where failed syncs are not remembered
}

func newFailure() *failure {
	return &failure{failed: make(chan error, 1), dead: make(chan struct{})}
}

// report makes err the failure, unless there is one. A failed sync is remembered in the folder first, whether or not
// there is one.
func (f *failure) report(err error) {
	if _, markErr := f.mark.Note(err); markErr != nil {
		err = errors.Join(err, markErr)
	}
	f.once.Do(func() {
		f.err = err
		close(f.dead)
		f.failed <- err
	})
}

// disk reports the failure of an operation on the data folder, and returns it.
func (f *failure) disk(what string, err error) error {
	err = diskError(what, err)
	f.report(err)
	return err
}

// get returns the failure, nil if there is none.
func (f *failure) get() error {
	select {
	case <-f.dead:
		return f.err
	default:
		return nil
	}
}

// exit reports err and ends the goroutine. It is for calls from raft, which would panic or continue.
func (f *failure) exit(err error) {
	f.report(err)
	runtime.Goexit()
}

// exitIfFailed ends the goroutine if the store has failed.
func (f *failure) exitIfFailed() {
	if err := f.get(); err != nil {
		f.exit(err)
	}
}

// guard runs work in a goroutine of its own and waits for it, so that an exit in it ends no other goroutine. It
// returns the failure if there is one, else the error of the work.
func (f *failure) guard(work func() error) error {
	result := make(chan error, 1)
	go func() {
		defer close(result)
		result <- work()
	}()
	err := <-result
	if failed := f.get(); failed != nil {
		return failed
	}
	return err
}

// readMapped runs an operation of package bbolt, which reads the file through a mapping. It panics where a page is not
// as it was written, and a page that the disk cannot read is a fault of the mapping. Both become an error.
func readMapped(operation func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			err = errors.New("the disk cannot read it, or the file has lost its end")
		default:
			err = fmt.Errorf("%w: %v", durable.ErrDamaged, r)
		}
	}()
	return operation()
}

// startsError returns the failure after the file of starts could not be read or written.
func startsError(err error) error { return fmt.Errorf("%w: %w", ErrDisk, err) }

// diskError returns the failure after an operation on the data folder.
func diskError(what string, err error) error { return fmt.Errorf("%w: %s: %w", ErrDisk, what, err) }
