package main

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/chainstore/chainstore/masternode"
)

// checkFlags say how often and how fast storage nodes check their chains.
type checkFlags struct {
	interval time.Duration
	rate     int64 // MiB a second
}

// maxCheckRate bounds the flag: no disk is as fast, and in bytes it is far from an overflow.
const maxCheckRate = 1 << 20

func (f *checkFlags) add(flags *pflag.FlagSet) {
	flags.DurationVar(&f.interval, "check-interval", masternode.DefaultCheckInterval,
		"check a storage node's chain when its last check ended this long ago; 0 for no checks on a schedule")
	flags.Int64Var(&f.rate, "check-rate", masternode.DefaultCheckRate>>20,
		"`MiB` a second that a check reads at most; 0 for as fast as it goes")
}

// values are the interval, and the rate in bytes a second.
func (f *checkFlags) values() (interval time.Duration, rate int64, err error) {
	if f.interval < 0 {
		return 0, 0, fmt.Errorf("--check-interval %v is negative: give 0 for no checks on a schedule", f.interval)
	}
	if f.rate < 0 || f.rate > maxCheckRate {
		return 0, 0, fmt.Errorf("--check-rate %d is not within 0 and %d MiB a second", f.rate, maxCheckRate)
	}
	return f.interval, f.rate << 20, nil
}
