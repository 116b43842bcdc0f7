package wire

import (
	"fmt"
	"slices"
	"strings"
)

// ProfileRequest asks for a profile of the process of a node. The answer is in the format of pprof, compressed.
type ProfileRequest struct {
	Node    string `json:"node,omitempty"`    // id or URL of a master or worker; "" for the node that is asked
	Kind    string `json:"kind"`              // one of ProfileKinds
	Seconds int    `json:"seconds,omitempty"` // 1 to MaxProfileSeconds if the kind takes time, else 0
}

// Kinds of profiles. Those of cpu, mutex and block take time.
const (
	ProfileCPU       = "cpu"       // where the processors spent their time
	ProfileHeap      = "heap"      // live memory, and all that was allocated since the start
	ProfileGoroutine = "goroutine" // the stacks of all goroutines
	ProfileMutex     = "mutex"     // who held locks that others waited for
	ProfileBlock     = "block"     // what goroutines waited for
)

// ProfileKinds lists the kinds of profiles.
func ProfileKinds() []string {
	return []string{ProfileCPU, ProfileHeap, ProfileGoroutine, ProfileMutex, ProfileBlock}
}

// MaxProfileSeconds is the longest time that a profile takes.
const MaxProfileSeconds = 30

// ProfileTakesTime reports whether a kind of profile observes the process for some time.
func ProfileTakesTime(kind string) bool {
	return kind == ProfileCPU || kind == ProfileMutex || kind == ProfileBlock
}

// Check returns an error that wraps [ErrBadRequest] unless there is such a profile.
func (q ProfileRequest) Check() error {
	switch {
	case !slices.Contains(ProfileKinds(), q.Kind):
		return fmt.Errorf("%w: kind %q is not one of %s", ErrBadRequest, q.Kind, strings.Join(ProfileKinds(), ", "))
	case ProfileTakesTime(q.Kind) && (q.Seconds < 1 || q.Seconds > MaxProfileSeconds):
		return fmt.Errorf("%w: a %s profile takes 1 to %d seconds, not %d", ErrBadRequest, q.Kind, MaxProfileSeconds,
			q.Seconds)
	case !ProfileTakesTime(q.Kind) && q.Seconds != 0:
		return fmt.Errorf("%w: a %s profile takes no time: leave seconds out", ErrBadRequest, q.Kind)
	}
	return nil
}
