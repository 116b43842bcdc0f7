package cli

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
)

// Use describes how a command uses a cluster.
type Use struct {
	Role     Role
	RetryFor time.Duration // see [client.Config]
	JSON     string        // usage of the flag --json, "" for a command without it
}

// UseCluster adds the flags that name the cluster to cmd, and makes cmd call act with a client of that cluster. The
// flags are not inherited: sub-commands may need another token. A command without Args takes no arguments.
func UseCluster(cmd *cobra.Command, use Use, act func(c *Call) error) *cobra.Command {
	connect := &connection{role: use.Role}
	call := &Call{}
	name, flag, env := use.Role.token()
	flags := cmd.Flags()
	flags.StringSliceVar(&connect.masters, "masters", nil, "`URLs` of some or all masters (or "+EnvMasters+")")
	flags.StringVar(&connect.tokenFile, flag, "", "`file` with the "+name+" (or "+env+")")
	flags.StringVar(&connect.cluster, "cluster", "", "cluster `file` with the masters and tokens (default "+
		DefaultClusterFile()+" if it exists and nothing else is given)")
	MustComplete(cmd.MarkFlagFilename("cluster", "json"))
	AddCA(cmd, &connect.ca)
	NoFiles(cmd, "masters")
	if use.JSON != "" {
		AddJSON(cmd, &call.JSON, use.JSON)
	}
	if cmd.Args == nil {
		cmd.Args = cobra.NoArgs
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		masters, token, err := connect.resolve()
		if err != nil {
			return err
		}
		trust, err := TLSConfig(connect.ca)
		if err != nil {
			return err
		}
		call.Client, err = client.New(client.Config{Masters: masters, Token: token, RetryFor: use.RetryFor, TLS: trust})
		if err != nil {
			return err
		}
		defer call.CloseIdle()
		call.Cmd, call.Ctx, call.Args, call.Out = cmd, cmd.Context(), args, cmd.OutOrStdout()
		return act(call)
	}
	return cmd
}

// Call is one run of a command that uses a cluster.
type Call struct {
	*client.Client
	Cmd  *cobra.Command
	Ctx  context.Context
	Args []string
	Out  io.Writer
	JSON bool // --json was given
}

// Print prints a result: as JSON with --json, and else as text.
func (c *Call) Print(result any, text string) error {
	return render.Print(c.Out, c.JSON, result, text)
}

// PrintList prints a list: each element as JSON with --json, and else all of it as text.
func PrintList[T any](c *Call, list []T, text string) error {
	if !c.JSON {
		return c.Print(nil, text)
	}
	for i := range list {
		if err := render.JSON(c.Out, &list[i]); err != nil {
			return err
		}
	}
	return nil
}
