// Command feed-agg lists feeds from its configuration and, inside a cluster,
// the services of its namespace. It is small on purpose; its modules are not,
// so that a cold compile takes as long as a real service's.
package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"
	"gopkg.in/yaml.v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const greeting = "feeds, aggregated"

type feed struct {
	Name string `yaml:"name" json:"name"`
	URL  string `yaml:"url" json:"url"`
}

type config struct {
	Listen string `yaml:"listen"`
	Feeds  []feed `yaml:"feeds"`
}

func main() {
	conf, err := readConfig("/etc/feed-agg/conf.yaml")
	if err != nil {
		log.Fatal(err)
	}
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.GET("/", func(c *gin.Context) { c.String(http.StatusOK, greeting+"\n") })
	router.GET("/feeds", func(c *gin.Context) { c.JSON(http.StatusOK, conf.Feeds) })
	router.GET("/services", services)
	log.Printf("feed-agg: %s: listening on %s", greeting, conf.Listen)
	log.Fatal(router.Run(conf.Listen))
}

func readConfig(path string) (config, error) {
	var conf config
	text, err := os.ReadFile(path)
	if err != nil {
		return conf, err
	}
	return conf, yaml.Unmarshal(text, &conf)
}

// services answers with the names of the services beside this one.
func services(c *gin.Context) {
	inCluster, err := rest.InClusterConfig()
	if err != nil {
		c.String(http.StatusNotFound, "not in a cluster: %v\n", err)
		return
	}
	client, err := kubernetes.NewForConfig(inCluster)
	if err != nil {
		c.String(http.StatusInternalServerError, "%v\n", err)
		return
	}
	ctx, cancel := context.WithTimeout(c, 5*time.Second)
	defer cancel()
	list, err := client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		c.String(http.StatusForbidden, "%v\n", err)
		return
	}
	names := make([]string, 0, len(list.Items))
	for _, service := range list.Items {
		names = append(names, service.Namespace+"/"+service.Name)
	}
	c.JSON(http.StatusOK, names)
}
