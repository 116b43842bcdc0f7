package admin

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// NewWaiting returns the commands on workers of a role that wait for approval. role is "storage" or "miner", and kind
// names it.
func NewWaiting(role, kind string) []*cobra.Command {
	return []*cobra.Command{newWaitingCommand(role, kind), newApproveCommand(role, kind), newRefuseCommand(role, kind)}
}

func newWaitingCommand(role, kind string) *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "waiting",
		Short: "List the " + kind + "s that wait for approval",
		Long: "List the " + kind + "s that wait for the approval of an administrator. Compare each id with\n" +
			"that in the log of the node before you approve it. The command needs an admin token of any role.",
		Args: cobra.NoArgs,
	}, cli.Use{Role: cli.AsAdmin, JSON: "print one JSON object a line for each node"}, func(c *cli.Call) error {
		waiting, err := waitingWorkers(c, role)
		if err != nil {
			return err
		}
		titles := render.Row{"ID", "URL", "SINCE", "APPROVED"}
		rows := render.Rows(titles, waiting, func(w *wire.WaitingWorker) render.Row {
			approved := "no"
			if w.Approved {
				approved = "yes"
			}
			return render.Row{w.ID, w.URL, render.LocalTime(w.Since), approved}
		})
		return cli.PrintList(c, waiting, render.Fit(render.Width(c.Out), []int{1}, rows...))
	})
}

// waitingWorkers returns the waiting workers of a role.
func waitingWorkers(c *cli.Call, role string) ([]wire.WaitingWorker, error) {
	status, err := c.Cluster(c.Ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(status.Waiting, func(w wire.WaitingWorker) bool { return w.Role != role }), nil
}

func newApproveCommand(role, kind string) *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "approve ID",
		Short: "Approve a " + kind + " that waits",
		Long: "Approve a " + kind + " that waits for approval; name it by its id, which the log of the node shows.\n" +
			"It becomes part of the cluster within seconds. The command needs an admin token with the role admin.",
		Example: "  chainstore " + role + " waiting\n  chainstore " + role + " approve " + role[:1] + "-4kq2ja6wz7bd",
		Args:    cli.ExactArgs("one "+kind, "; 'chainstore "+role+" waiting' lists them"),
	}, cli.Use{Role: cli.AsAdmin, JSON: "print one JSON object"}, func(c *cli.Call) error {
		if err := checkWaiting(c, role, kind); err != nil {
			return err
		}
		approved, err := c.ApproveWorker(c.Ctx, c.Args[0])
		if err != nil {
			return notWaiting(err, role, kind)
		}
		return c.Print(approved, fmt.Sprintf("%s at %s is approved, and takes part within seconds\n",
			render.Plain(approved.ID), render.Plain(approved.URL)))
	})
}

func newRefuseCommand(role, kind string) *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "refuse ID",
		Short: "Refuse a " + kind + " that waits permanently",
		Long: "Refuse a " + kind + " that waits for approval permanently; name it by its id. With an empty data\n" +
			"folder the machine can ask again. If the node does not belong here, replace the secret that it has:\n" +
			"chainstore secret rotate. The command needs an admin token with the role admin.",
		Args: cli.ExactArgs("one "+kind, "; 'chainstore "+role+" waiting' lists them"),
	}, cli.Use{Role: cli.AsAdmin}, func(c *cli.Call) error {
		if err := checkWaiting(c, role, kind); err != nil {
			return err
		}
		if err := c.RefuseWorker(c.Ctx, c.Args[0]); err != nil {
			return notWaiting(err, role, kind)
		}
		_, err := fmt.Fprintf(c.Out, "%s is refused\n", c.Args[0])
		return err
	})
}

// checkWaiting refuses the id of a worker of the other role. The masters refuse one that does not wait.
func checkWaiting(c *cli.Call, role, kind string) error {
	status, err := c.Cluster(c.Ctx)
	if err != nil {
		return err
	}
	for _, w := range status.Waiting {
		if w.ID == c.Args[0] && w.Role != role {
			return fmt.Errorf("%s is no %s: use 'chainstore %s'", w.ID, kind, render.Plain(w.Role))
		}
	}
	return nil
}

// notWaiting adds to an error where the waiting workers are listed.
func notWaiting(err error, role, kind string) error {
	if errors.Is(err, wire.ErrNotFound) {
		return fmt.Errorf("%w: 'chainstore %s waiting' lists the %ss that wait", err, role, kind)
	}
	return err
}
