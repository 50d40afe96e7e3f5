package harbortest

import (
	"fmt"
	"slices"
	"strings"
)

// adapters are the kinds of registries that Harbor can talk to.
func adapters() []string {
	return []string{
		"ali-acr", "aws-ecr", "azure-acr", "docker-hub", "docker-registry", "github-ghcr", "google-gcr", "harbor",
		"huawei-SWR", "jfrog-artifactory", "tencent-tcr", "volcengine-cr",
	}
}

// proxied are those that a project can be a cache of.
func proxied() []string {
	return []string{
		"docker-hub", "harbor", "azure-acr", "ali-acr", "aws-ecr", "google-gcr", "docker-registry", "github-ghcr", "jfrog-artifactory",
	}
}

func (s *Server) listAdapters(c *call) (answer, error) {
	if err := c.inSystem("replication-adapter", "list"); err != nil {
		return answer{}, err
	}
	return shown(adapters())
}

type endpoint struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type endpoints struct {
	Type string     `json:"endpoint_type"`
	List []endpoint `json:"endpoints"`
}

// listAdapterInfos shows where the registries of some kinds are.
func (s *Server) listAdapterInfos(c *call) (answer, error) {
	if err := c.inSystem("replication-adapter", "list"); err != nil {
		return answer{}, err
	}
	at := func(kind string, hosts ...string) *endpoints {
		e := &endpoints{Type: "EndpointPatternType" + kind}
		for _, host := range hosts {
			e.List = append(e.List, endpoint{host, "https://" + host})
		}
		return e
	}
	type credentials struct {
		KeyData    string `json:"access_key_data"`
		KeyType    string `json:"access_key_type"`
		SecretData string `json:"access_secret_data"`
		SecretType string `json:"access_secret_type"`
	}
	type info struct {
		Endpoints   *endpoints   `json:"endpoint_pattern,omitempty"`
		Credentials *credentials `json:"credential_pattern,omitempty"`
	}
	return shown(map[string]info{
		"ali-acr":     {Endpoints: aliEndpoints()},
		"aws-ecr":     {Endpoints: awsEndpoints()},
		"docker-hub":  {Endpoints: at("Fix", "hub.docker.com")},
		"github-ghcr": {Endpoints: at("Fix", "ghcr.io")},
		"google-gcr": {
			Endpoints:   at("List", "gcr.io", "us.gcr.io", "eu.gcr.io", "asia.gcr.io"),
			Credentials: &credentials{"_json_key", "AccessKeyTypeFix", "No Change", "AccessSecretTypeFile"},
		},
		"tencent-tcr":   {},
		"volcengine-cr": {},
	})
}

func aliEndpoints() *endpoints {
	const regions = "cn-qingdao cn-beijing cn-zhangjiakou cn-huhehaote cn-wulanchabu cn-hangzhou cn-shanghai cn-shenzhen cn-heyuan " +
		"cn-guangzhou cn-chengdu cn-hongkong ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-5 ap-south-1 " +
		"ap-northeast-1 us-west-1 us-east-1 eu-central-1 eu-west-1 me-east-1"
	e := &endpoints{Type: "EndpointPatternTypeList"}
	for region := range strings.FieldsSeq(regions) {
		for _, kind := range [][2]string{
			{"", "https://registry.%s.aliyuncs.com"}, {"-vpc", "https://registry-vpc.%s.aliyuncs.com"},
			{"-internal", "https://registry-internal.%s.aliyuncs.com"}, {"-ee-vpc", "https://instanceName-registry-vpc.%s.cr.aliyuncs.com"},
			{"-ee", "https://instanceName-registry.%s.cr.aliyuncs.com"},
		} {
			e.List = append(e.List, endpoint{region + kind[0], fmt.Sprintf(kind[1], region)})
		}
	}
	return e
}

func awsEndpoints() *endpoints {
	const regions = "us-east-2 us-east-1 us-west-1 us-west-2 af-south-1 ap-east-1 ap-south-1 ap-northeast-3 ap-northeast-2 " +
		"ap-southeast-1 ap-southeast-2 ap-northeast-1 ca-central-1 cn-north-1 cn-northwest-1 eu-central-1 eu-west-1 eu-west-2 " +
		"eu-south-1 eu-west-3 eu-north-1 me-south-1 sa-east-1"
	e := &endpoints{Type: "EndpointPatternTypeList"}
	for region := range strings.FieldsSeq(regions) {
		e.List = append(e.List, endpoint{region, "https://api.ecr." + region + ".amazonaws.com"})
	}
	return e
}

// checkProxied says what is wrong with a registry that a project is to be a
// cache of.
func (s *Server) checkProxied(id int64) error {
	if id <= 0 {
		return badRequest("bad request: %d is invalid value of registry_id, it should be geater than 0", id)
	}
	r := s.registries.get(id)
	if r == nil {
		return internal()
	}
	if !slices.Contains(proxied(), r.kind) {
		return badRequest("bad request: unsupported registry type %s", r.kind)
	}
	return nil
}

// proxiedSummary is the registry that a project is a cache of, as its summary
// has it; nil if it is none.
func (s *Server) proxiedSummary(p *project) *shownRegistry {
	r := s.registries.get(p.registry)
	if r == nil {
		return nil
	}
	shown := s.showRegistryOf(r)
	shown.Credential = nil
	return &shown
}
