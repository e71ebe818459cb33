"""Every element of an OSS website document, and of its S3 dialect, in the order of writing.

Owns names and kinds only (SEMANTICS.md 1.2); what they mean is told by `scheduler.rules.oss.read`.
"""

from __future__ import annotations

from scheduler.rules.xml.schema import BOOL, INT, SECRET, TEXT, container, many

_KEY_VALUE = {"Key": TEXT, "Value": TEXT}
_ALTERNATE = container(
    {
        "MirrorMultiAlternateNumber": INT,
        "MirrorMultiAlternateURL": TEXT,
        "MirrorMultiAlternateVpcId": TEXT,
        "MirrorMultiAlternateDstRegion": TEXT,
    },
    many=True,
)
_REDIRECT = {
    "RedirectType": TEXT,
    "PassQueryString": BOOL,
    "MirrorURL": TEXT,
    "MirrorURLSlave": TEXT,
    "MirrorURLProbe": TEXT,
    "MirrorMultiAlternates": container({"MirrorMultiAlternate": _ALTERNATE}),
    "MirrorPassQueryString": BOOL,
    "MirrorFollowRedirect": BOOL,
    "MirrorCheckMd5": BOOL,
    "MirrorHeaders": container(
        {
            "PassAll": BOOL,
            "Pass": many(TEXT),
            "Remove": many(TEXT),
            "Set": container(_KEY_VALUE, many=True),
        }
    ),
    "MirrorReturnHeaders": container({"ReturnHeader": container(_KEY_VALUE, many=True)}),
    "MirrorAuth": container(
        {
            "AuthType": TEXT,
            "Region": TEXT,
            "AccessKeyId": TEXT,
            "AccessKeySecret": SECRET,
        }
    ),
    "MirrorTaggings": container({"Taggings": container(_KEY_VALUE, many=True)}),
    "MirrorSNI": BOOL,
    "MirrorPassOriginalSlashes": BOOL,
    "MirrorSwitchAllErrors": BOOL,
    "MirrorAllowHeadObject": BOOL,
    "MirrorAsyncStatus": INT,
    "MirrorProxyPass": BOOL,
    "MirrorSaveOssMeta": BOOL,
    "MirrorUserLastModified": BOOL,
    "TransparentMirrorResponseCodes": TEXT,
    "MirrorAllowGetImageInfo": BOOL,
    "MirrorAllowVideoSnapshot": BOOL,
    "MirrorUsingRole": BOOL,
    "MirrorRole": TEXT,
    "MirrorIsExpressTunnel": BOOL,
    "MirrorTunnelId": TEXT,
    "MirrorDstRegion": TEXT,
    "MirrorDstVpcId": TEXT,
    "MirrorDstSlaveVpcId": TEXT,
    "Protocol": TEXT,
    "HostName": TEXT,
    "EnableReplacePrefix": BOOL,
    "ReplaceKeyWith": TEXT,
    "ReplaceKeyPrefixWith": TEXT,
    "HttpRedirectCode": INT,
}
#: Every element of a `RoutingRule`, in the order of writing.
ROUTING_RULE = container(
    {
        "RuleNumber": INT,
        "Condition": container(
            {
                "KeyPrefixEquals": TEXT,
                "KeySuffixEquals": TEXT,
                "HttpErrorCodeReturnedEquals": INT,
                "IncludeHeader": container(
                    {"Key": TEXT, "Equals": TEXT, "StartsWith": TEXT, "EndsWith": TEXT}, many=True
                ),
            }
        ),
        "Redirect": container(_REDIRECT),
        "LuaConfig": container({"Script": TEXT}),
    },
    many=True,
)
INDEX_DOCUMENT = container({"Suffix": TEXT, "SupportSubDir": BOOL, "Type": INT})
ERROR_DOCUMENT = container({"Key": TEXT, "HttpStatus": INT})
WEBSITE = container(
    {
        "IndexDocument": INDEX_DOCUMENT,
        "ErrorDocument": ERROR_DOCUMENT,
        "RedirectAllRequestsTo": container({"HostName": TEXT, "Protocol": TEXT}),
        "RoutingRules": container({"RoutingRule": ROUTING_RULE}),
    }
)
