package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// How verify ends: with 0 where all that it was asked to check is good.
const (
	exitFailed = 1 // something does not fit; of the other commands: they failed
	// it could not be checked to the end: nobody answers, it was stopped, or the command line is wrong
	exitUnchecked = 2
)

// unchecked is an error of a check that is no finding.
type unchecked struct{ error }

func (u unchecked) Unwrap() error { return u.error }

// finding is an error that says that something does not fit.
type finding struct{ error }

func (f finding) Unwrap() error { return f.error }

// exitStatus is how the program ends with an error.
func exitStatus(err error) int {
	if errors.As(err, &unchecked{}) {
		return exitUnchecked
	}
	return exitFailed
}

// tellApart makes a command's errors tell findings from what could not be checked, those of its command line too.
func tellApart(cmd *cobra.Command) {
	args, run := cmd.Args, cmd.RunE
	cmd.Args = func(cmd *cobra.Command, list []string) error { return apart(args(cmd, list)) }
	cmd.RunE = func(cmd *cobra.Command, list []string) error { return apart(run(cmd, list)) }
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return apart(cmd.Root().FlagErrorFunc()(cmd, err))
	})
}

func apart(err error) error {
	if err == nil || errors.As(err, &finding{}) {
		return err
	}
	return unchecked{err}
}
