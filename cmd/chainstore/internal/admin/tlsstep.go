package admin

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// NewTLS is the parent of the commands that move a cluster from plain text to TLS.
func NewTLS() *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "tls",
		Short: "Move the cluster from plain text to TLS while it runs",
		Long: `Move the cluster from plain text to TLS while it runs, in three steps. The table has the step.

  accept    nodes with certificates take both on each port, and call the others in plain text
  prefer    they call the others over TLS. It needs certificates on all nodes
  require   no node takes plain text. There is no way back

Run 'chainstore tls accept', restart each node with certificates, then run 'chainstore tls prefer', move the clients to
https:// URLs, and run 'chainstore tls require'. Before each of these, 'chainstore tls status' must show that all nodes
know the step. docs/operations.md has the procedure.`,
	}, newTLSStatusCommand(), newTLSStepCommand(wire.TLSAccept,
		"Let nodes with certificates take plain text and TLS",
		"Let nodes with certificates take plain text and TLS. It is the first step, and the way back from 'prefer'."),
		newTLSStepCommand(wire.TLSPrefer, "Let nodes with certificates call each other over TLS",
			`Let nodes with certificates call each other over TLS. First every node tries TLS with each node that it
calls. The step is refused while a pair of nodes fails. A node that has spoken TLS in this step is not called in plain
text any more.`),
		newTLSStepCommand(wire.TLSRequire, "Refuse plain text on all nodes",
			`Refuse plain text on all nodes, whatever flags they are started with: a node without certificates does not
start any more. The step is refused while a node does not speak TLS with the leader, or with a node that it calls. It
cannot be undone.`))
}

// tlsStatus is the step of the group, and what each node says about it.
type tlsStatus struct {
	Step  string    `json:"step"` // none for a group that was never moved
	Nodes []tlsNode `json:"nodes"`
}

// tlsNode is a node in [tlsStatus].
type tlsNode struct {
	ID          string `json:"id"`
	URL         string `json:"url"`
	Role        string `json:"role"`
	Certificate bool   `json:"certificate"` // it has certificates
	Step        string `json:"step"`        // that it knows, "" if it has not said so
	Secured     bool   `json:"secured"`     // the leader called it over TLS
}

func tlsStatusOf(c *wire.Cluster) tlsStatus {
	s := tlsStatus{Step: c.TLS.Name(), Nodes: []tlsNode{}}
	add := func(role, id, url string, certificate *wire.Certificate, use *wire.TLSUse) {
		node := tlsNode{ID: id, URL: url, Role: role, Certificate: certificate != nil}
		switch {
		case use != nil:
			node.Step, node.Secured = use.Step.Name(), use.Secured
		case id == c.Leader && c.Authoritative: // it does not call itself
			node.Step, node.Secured = c.TLS.Name(), node.Certificate
		}
		s.Nodes = append(s.Nodes, node)
	}
	for i := range c.Masters {
		m := &c.Masters[i]
		add("master", m.ID, m.URL, m.Certificate, m.TLS)
	}
	for i := range c.Storages {
		n := &c.Storages[i]
		add("storage", n.ID, n.URL, n.Certificate, n.TLS)
	}
	for i := range c.Miners {
		m := &c.Miners[i]
		add("miner", m.ID, m.URL, m.Certificate, m.TLS)
	}
	return s
}

func (s tlsStatus) text() string {
	yes := func(is bool) string {
		if is {
			return "yes"
		}
		return "no"
	}
	rows := render.Rows(render.Row{"NODE", "ROLE", "CERTIFICATE", "KNOWS STEP", "CALLED OVER TLS"}, s.Nodes,
		func(n *tlsNode) render.Row {
			return render.Row{cmp.Or(n.URL, n.ID), n.Role, yes(n.Certificate), cmp.Or(n.Step, "-"), yes(n.Secured)}
		})
	return "step " + s.Step + "\n\n" + render.Table(rows...)
}

func newTLSStatusCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "status",
		Short: "Show the step, and which nodes have certificates and speak TLS",
		Long: `Show the step of the move to TLS. For each node it shows whether the node has certificates, the step that
it knows, and whether the leader called it over TLS last.`,
	}, cli.Use{Role: cli.AsAny, JSON: "print one JSON object"}, func(c *cli.Call) error {
		status, err := c.Cluster(c.Ctx)
		if err != nil {
			return err
		}
		s := tlsStatusOf(&status)
		return c.Print(s, s.text())
	})
}

// newTLSStepCommand returns the command that takes a step.
func newTLSStepCommand(step wire.TLSStep, short, long string) *cobra.Command {
	yes := step != wire.TLSRequire
	cmd := cli.UseCluster(&cobra.Command{
		Use:   string(step),
		Short: short,
		Long:  long + "\nThe command needs the admin token.",
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if !yes && !render.IsTerminal(cmd.InOrStdin()) {
				return errors.New("there is no terminal to ask on: to refuse plain text on all nodes give --yes")
			}
			return nil
		},
	}, cli.Use{Role: cli.AsAdmin, JSON: "print the step as one JSON object"}, func(c *cli.Call) error {
		if !yes {
			sure, err := cli.Confirm(c.Cmd.InOrStdin(), c.Cmd.ErrOrStderr(),
				"Refuse plain text on all nodes? This cannot be undone. [y/N] ")
			if err != nil {
				return err
			}
			if !sure {
				return errors.New("nothing was changed")
			}
		}
		if err := c.SetTLS(c.Ctx, step); err != nil {
			return err
		}
		return c.Print(wire.TLSChange{Step: step}, fmt.Sprintf("the step is %s: wait until 'chainstore tls status' "+
			"shows that all nodes know it\n", step))
	})
	if step == wire.TLSRequire {
		cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	}
	return cmd
}
