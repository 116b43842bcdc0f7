package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

// Exit statuses. verify ends with 0 if everything that it was asked to check is valid.
const (
	ExitFailed    = 1 // the command failed, or verify found something invalid
	ExitUnchecked = 2 // verify could not complete: no answer, stopped, or a wrong command line
)

// unchecked is an error of a verification that could not be completed.
type unchecked struct{ error }

func (u unchecked) Unwrap() error { return u.error }

// Finding is an error that reports invalid data.
type Finding struct{ Err error }

func (f Finding) Error() string { return f.Err.Error() }

func (f Finding) Unwrap() error { return f.Err }

// ExitStatus returns the exit status of the program for an error.
func ExitStatus(err error) int {
	if errors.As(err, &unchecked{}) {
		return ExitUnchecked
	}
	return ExitFailed
}

// ClassifyErrors marks every error of a command that is not a [Finding] as unchecked, including those of its command
// line.
func ClassifyErrors(cmd *cobra.Command) {
	args, run := cmd.Args, cmd.RunE
	cmd.Args = func(cmd *cobra.Command, list []string) error { return classify(args(cmd, list)) }
	cmd.RunE = func(cmd *cobra.Command, list []string) error { return classify(run(cmd, list)) }
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return classify(cmd.Root().FlagErrorFunc()(cmd, err))
	})
}

func classify(err error) error {
	if err == nil || errors.As(err, &Finding{}) {
		return err
	}
	return unchecked{err}
}
