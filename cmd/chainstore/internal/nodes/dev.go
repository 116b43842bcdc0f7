package nodes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/devcluster"
)

// NewDev runs a whole cluster on this machine.
func NewDev() *cobra.Command {
	var processes, afterFailedSync bool
	t := devcluster.NewTopology("chainstore-data", 8000)
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster on this machine: three masters, three storage nodes, one miner",
		Long: `Run a whole cluster on the loopback address, for development and for a first look. One folder has all
of its data. A cluster that is started again on the same folder continues the chain. Ctrl-C stops it.

With --processes each of the seven roles is a separate process, so that you can kill one with kill -9 and watch.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if t.Dir, err = filepath.Abs(t.Dir); err != nil {
				return err
			}
			t.Adjust = func(_ int, r *devcluster.Role) { r.AfterFailedSync = afterFailedSync }
			c, err := startDev(cmd.Context(), t, processes)
			if err != nil {
				return err
			}
			err = show(cmd, c, processes)
			return errors.Join(err, c.Stop())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&t.Dir, "data", t.Dir, "`folder` of the cluster")
	flags.IntVar(&t.Port, "port", t.Port,
		"base `port`: masters from it on, raft from +10, the miner at +79, storage nodes from +82")
	flags.BoolVar(&t.TLS, "tls", false,
		"speak TLS between all roles and with users, with certificates of an authority in the folder tls/")
	flags.BoolVar(&processes, "processes", false, "run each role as a separate process")
	flags.BoolVar(&afterFailedSync, "after-failed-sync", false,
		"start although a sync of a role's folder failed since the machine was started; for one start")
	bindFlags(flags, t.CheckFlags())
	return cmd
}

func startDev(ctx context.Context, t devcluster.Topology, processes bool) (_ *devcluster.Cluster, err error) {
	executable := "" // run the roles in this process
	if processes {
		if executable, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	return devcluster.Start(ctx, t, executable)
}

// show prints the roles and example commands, then "ready". It reports roles that end until the command is stopped.
func show(cmd *cobra.Command, c *devcluster.Cluster, processes bool) error {
	ctx := cmd.Context()
	out := cmd.OutOrStdout()
	if err := printTable(ctx, out, c, processes); err != nil {
		return err
	}
	printHints(out, c)
	fmt.Fprintln(out, "ready")
	c.Ended(ctx, func(name string, err error) {
		if err == nil {
			err = errors.New("it ended")
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s stopped: %v\nthe others continue; see %s\n",
			name, err, filepath.Join(c.Topology().Dir, "logs", name+".log"))
	})
	<-ctx.Done()
	return nil
}

// printTable prints the roles with their URLs and states.
func printTable(ctx context.Context, out io.Writer, c *devcluster.Cluster, processes bool) error {
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	states := map[string]string{}
	for _, m := range status.Masters {
		states[m.URL] = m.State
	}
	for _, s := range status.Storages {
		states[s.URL] = fmt.Sprintf("%s, %d blocks", s.State, s.Height)
	}
	for _, m := range status.Miners {
		states[m.URL] = map[bool]string{true: "live", false: "not live"}[m.Live]
	}
	pids := c.PIDs()
	rows := []render.Row{{"ROLE", "URL", "PID", "STATE"}}
	for _, r := range c.Topology().Roles() {
		rows = append(rows, render.Row{r.Name, r.URL(), pids[r.Name], states[r.URL()]})
	}
	if !processes {
		for i, row := range rows {
			rows[i] = slices.Delete(row, 2, 3)
		}
	}
	_, err = io.WriteString(out, render.Table(rows...))
	return err
}

// printHints prints example commands. They read the token from its file and do not show it.
func printHints(out io.Writer, c *devcluster.Cluster) {
	file := devcluster.ClusterFilePath(c.Topology().Dir)
	masters := c.Topology().MasterURLs()
	first, last := masters[0], masters[len(masters)-1]
	curl := "curl"
	if ca := c.File().CA; ca != "" {
		curl += " --cacert " + ca
	}
	fmt.Fprintf(out, `
Try:
  export TOKEN=$(sed -n 's/.*"project": "\(.*\)".*/\1/p' %[1]s)
  %[5]s -H "Authorization: Bearer $TOKEN" --data-binary 'hello' '%[2]s/v1/records?wait=stored'
  %[5]s -H "Authorization: Bearer $TOKEN" %[3]s/v1/records
  %[5]s -H "Authorization: Bearer $TOKEN" %[4]s/v1/cluster

`, file, first, last, first, curl)
}
