package main

import (
	"context"
	"iter"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/wire"
)

const defaultTail = 10

// newTailCommand prints the newest records, and those to come.
func newTailCommand() *cobra.Command {
	l := &listing{}
	var count uint64
	var follow bool
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the newest records, and follow",
		Long: `Print the newest records, the oldest of them first. With --follow it goes on with those that are
appended, each once and none
left out, whichever master dies, until it is stopped.`,
		Example: `  chainstore tail -f
  chainstore tail -n 0 -f --key door/7 --json`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	connect := addConnection(cmd, asProject)
	l.addQuery(cmd)
	cmd.Flags().Uint64VarP(&count, "lines", "n", defaultTail, "begin with the newest `N` records")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with the records that are appended")
	mustComplete(cmd.RegisterFlagCompletionFunc("lines", cobra.NoFileCompletions))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := connect.open(0)
		if err != nil {
			return err
		}
		defer c.CloseIdle()
		q := client.StreamQuery{Project: l.query.Project, Key: l.query.Key, Now: true}
		var last []wire.Record
		if count > 0 {
			if last, err = newest(cmd.Context(), c, l.query, count); err != nil {
				return err
			}
			if n := len(last); n > 0 {
				q.From = last[n-1].Index + 1
			}
			q.Now = false
		}
		_, err = l.print(cmd.OutOrStdout(), func(yield func(wire.Record, error) bool) {
			for i := range last {
				if !yield(last[i], nil) {
					return
				}
			}
			if follow {
				c.Stream(cmd.Context(), q)(yield)
			}
		}, 0)
		if follow && cmd.Context().Err() != nil {
			return nil // it was told to stop
		}
		return err
	}
	return cmd
}

// newest reads the newest records that a query means, count of them at most, the oldest first. Lists go forwards, so it
// looks at more and more of the chain's end.
func newest(ctx context.Context, c *client.Client, q client.ListQuery, count uint64) (last []wire.Record, err error) {
	status, err := c.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	q.Limit = wire.MaxPage
	for window := 4 * count; ; window *= 16 {
		q.From = status.Head.Size - min(window, status.Head.Size)
		if last, err = lastOf(c.List(ctx, q), count); err != nil || uint64(len(last)) == count || q.From == 0 {
			return last, err
		}
	}
}

// lastOf keeps the last records of a list.
func lastOf(records iter.Seq2[wire.Record, error], count uint64) (last []wire.Record, err error) {
	for r, err := range records {
		if err != nil {
			return nil, err
		}
		if last = append(last, r); uint64(len(last)) > count {
			last = last[1:]
		}
	}
	return last, nil
}
