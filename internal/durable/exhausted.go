package durable

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
)

// ErrExhausted: the operation found no room on the disk, no free file descriptor or no memory, and changed nothing. It
// may be tried again. Only an operation that can promise that wraps it, so a failed sync never does.
var ErrExhausted = errors.New("a resource is exhausted")

var (
	noSpace     = []error{syscall.ENOSPC, syscall.EDQUOT}
	noResources = []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM}
)

// NoSpace reports whether the operating system refused an operation because the disk, or a quota on it, is full.
func NoSpace(err error) bool { return isAny(err, noSpace) }

// NoResources reports whether the operating system had no file descriptor or no memory for an operation.
func NoResources(err error) bool { return isAny(err, noResources) }

func isAny(err error, list []error) bool {
	return slices.ContainsFunc(list, func(e error) bool { return errors.Is(err, e) })
}

// Unchanged marks the error of an operation that failed and changed nothing: it wraps [ErrExhausted] if a resource is
// exhausted, else it is returned as it is.
func Unchanged(err error) error {
	if err == nil || errors.Is(err, ErrExhausted) || !NoSpace(err) && !NoResources(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrExhausted, err)
}

// CanRetry reports whether an error wraps [ErrExhausted]. An error that contains that of a sync cannot be retried.
func CanRetry(err error) bool { return errors.Is(err, ErrExhausted) && !IsSync(err) }

// HaveDescriptors checks that so many file descriptors are free now, before an operation that must not lack one in its
// middle. The error wraps [ErrExhausted].
func HaveDescriptors(count int) (err error) {
	for range count {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return Unchanged(err)
		}
		defer func() { _ = f.Close() }() // nothing was written
	}
	return nil
}
