// Package profile takes profiles of this process with the Go runtime.
package profile

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// running holds a value while a profile is being taken. The profilers belong to the process, and so do several roles
// that run in one.
var running = make(chan struct{}, 1)

// How much a profile of contention samples: one in mutexFraction events, and one for each blockRate nanoseconds of
// waiting.
const (
	mutexFraction = 100
	blockRate     = 100_000
)

// Take takes a profile, compressed, in the format of pprof. A profile of cpu, mutex or block takes as many seconds as
// the request says, or less if ctx ends. Errors: [wire.ErrBadRequest], [wire.ErrProfiling], and the cause of the end of
// ctx.
func Take(ctx context.Context, q wire.ProfileRequest) ([]byte, error) {
	if err := q.Check(); err != nil {
		return nil, err
	}
	select {
	case running <- struct{}{}:
		defer func() { <-running }()
	default:
		return nil, wire.ErrProfiling
	}
	var profile bytes.Buffer
	switch q.Kind {
	case wire.ProfileCPU:
		if err := pprof.StartCPUProfile(&profile); err != nil {
			return nil, fmt.Errorf("%w: %w", wire.ErrProfiling, err) // through --pprof
		}
		err := wait(ctx, q.Seconds)
		pprof.StopCPUProfile()
		return profile.Bytes(), err
	case wire.ProfileMutex:
		before := runtime.SetMutexProfileFraction(mutexFraction)
		err := wait(ctx, q.Seconds)
		runtime.SetMutexProfileFraction(before)
		if err != nil {
			return nil, err
		}
	case wire.ProfileBlock:
		runtime.SetBlockProfileRate(blockRate)
		err := wait(ctx, q.Seconds)
		runtime.SetBlockProfileRate(0)
		if err != nil {
			return nil, err
		}
	}
	err := pprof.Lookup(q.Kind).WriteTo(&profile, 0)
	return profile.Bytes(), err
}

func wait(ctx context.Context, seconds int) error {
	end := time.NewTimer(time.Duration(seconds) * time.Second)
	defer end.Stop()
	select {
	case <-end.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
