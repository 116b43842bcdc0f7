package admin

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
)

// NewMasterSetTime moves the time of the group forward.
func NewMasterSetTime() *cobra.Command {
	var yes bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "set-time TIME|now",
		Short: "Move the time that records get forward",
		Long: `Move the time of the group forward, to an RFC 3339 time or to the clock of this machine (now).
The time follows the clocks of the masters by itself, unless fewer than three masters answer or no majority of their
clocks agrees. It never moves back: records keep a time that is too late until the clocks reach it.
So a time that is more than a day later than that of the group needs --yes.
The command needs the admin token.`,
		Example: "  chainstore master set-time now\n  chainstore master set-time 2026-05-04T12:00:00Z",
		Args:    cli.ExactArgs("one time, or now"),
	}, cli.Use{Role: cli.AsAdmin}, func(c *cli.Call) error {
		to := time.Now()
		if text := c.Args[0]; text != "now" {
			var err error
			if to, err = time.Parse(time.RFC3339, text); err != nil || to.UnixMilli() < 0 {
				return fmt.Errorf("time %q is neither now nor an RFC 3339 time after 1970, such as "+
					"2026-05-04T12:00:00Z", text)
			}
		}
		set, err := c.SetTime(c.Ctx, uint64(to.UnixMilli()), yes)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.Out, "the time of the group is %s, it was %s\n", render.LocalTime(set.Time),
			render.LocalTime(set.Was))
		return err
	})
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "also move it by more than a day")
	return cmd
}
